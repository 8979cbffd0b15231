"""Our records against google-research/bert's on the same text: figures within the sampling error of both.

tests/data/original_statistics.json holds what create_pretraining_data.py made over many seeds
(tests/data/make_original_statistics.py made it); our figures are computed by the same functions.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from bertline.components.pretraining_data.google import run
from bertline.pipelines.cli.originals import CREATE_PRETRAINING_DATA

DATA = Path(__file__).parents[2] / "data"
SEEDS = 8
SIGMAS = 5
# Figures that differ by intention: fewer random pairs, no special replacements, no words joined across [SEP]; and what
# follows from these: the last sentences of a document make pairs of their own, shorter ones.
MENDED = {"random_next", "special_replacements", "masked_across_separator"}
CHANGED_BY_TRUE_PAIRS = {"instances", "mean_length", "mean_length_of_a", "mean_length_of_b", "full_rows"}
CHANGED_BY_TRUE_PAIRS |= {"predictions_per_row", "b_starts_inside_word", "masked_tokens"}


@pytest.fixture(scope="module")
def statistics_script():
    specification = importlib.util.spec_from_file_location("original", DATA / "make_original_statistics.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def our_figures(folder, flags, script, **settings):
    """Figure -> its values over the seeds."""
    values = []
    for seed in range(SEEDS):
        out = folder / str(seed)
        config = CREATE_PRETRAINING_DATA.make_config({**flags, "random_seed": seed, **settings})
        run(str(DATA / "sentences.txt"), str(out / "x.tfrecord"), DATA / "vocab.txt", config)
        values.append(script.figures_of_folder(out))
    return {name: np.array([each[name] for each in values]) for name in values[0]}


def deviations(ours, theirs, seeds):
    """Figure -> how many standard errors lie between our mean and the original's."""
    found = {}
    for name, values in ours.items():
        mean, deviation = theirs[name]["mean"], theirs[name]["standard_deviation"]
        error = np.hypot(deviation / np.sqrt(seeds), max(values.std(ddof=1), deviation / 3) / np.sqrt(len(values)))
        found[name] = 0.0 if values.mean() == mean else float(abs(values.mean() - mean) / max(error, 1e-9))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["whole_word_128", "piece_128", "whole_word_512"])
def test_googles_semantics_have_the_originals_distributions(tmp_path, statistics_script, setting):
    original = json.loads((DATA / "original_statistics.json").read_text(encoding="utf-8"))["settings"][setting]
    figures = our_figures(tmp_path, original["flags"], statistics_script, semantics="google")
    found = deviations(figures, original["figures"], original["seeds"])
    assert {name: round(sigmas, 1) for name, sigmas in found.items() if sigmas > SIGMAS} == {}
    assert abs(original["figures"]["random_next"]["mean"] - 0.55) < 0.02
    assert figures["random_next"].mean() > 0.52 and figures["special_replacements"].mean() > 0


@pytest.mark.slow
def test_fixed_semantics_differ_where_the_original_is_wrong_and_nowhere_else(tmp_path, statistics_script):
    original = json.loads((DATA / "original_statistics.json").read_text(encoding="utf-8"))["settings"]["whole_word_128"]
    figures = our_figures(tmp_path, original["flags"], statistics_script)
    found = deviations(figures, original["figures"], original["seeds"])
    unexpected = found.keys() - MENDED - CHANGED_BY_TRUE_PAIRS
    assert {name: found[name] for name in unexpected if found[name] > SIGMAS} == {}
    assert figures["special_replacements"].max() == 0
    rows = figures["instances"].sum()
    assert abs(figures["random_next"].mean() - 0.5) < SIGMAS * 0.5 / np.sqrt(rows)
    for name in CHANGED_BY_TRUE_PAIRS - {"b_starts_inside_word"}:
        assert abs(figures[name].mean() / original["figures"][name]["mean"] - 1) < 0.1
