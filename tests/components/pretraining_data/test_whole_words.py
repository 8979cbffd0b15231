"""From sentences to records: which pieces are predicted together, in English, Chinese, and by given spans."""

from pathlib import Path

import numpy as np
import pytest

from bertline.components.pretraining_data.google import run
from bertline.model.records.reader import open_records
from bertline.pipelines.cli.originals import CREATE_PRETRAINING_DATA

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# google-research/bert's README: the example of whole-word masking.
ENGLISH = "The man jumped up, put his basket on Philammon's head."
ENGLISH_PIECES = "the man jumped up , put his basket on phil ##am ##mon ' s head ."
# Chinese-BERT-wwm's README: its example, and its words.
CHINESE = "使用语言模型来预测下一个词的概率。"
CHINESE_WORDS = "使用 语言 模型 来 预测 下 一个 词 的 概率 。"
# ERNIE's example of phrases and entities.
ERNIE = "哈尔滨是黑龙江的省会，国际冰雪文化名城。"
ERNIE_UNITS = ("哈尔滨", "黑龙江", "国际冰雪文化名城")


def predicted_sets(folder: Path, line: str, pieces: list[str], **settings) -> list[set[int]]:
    """For each row, the places in `pieces` that are predicted, where the row holds the whole line as A or B."""
    folder.mkdir(exist_ok=True)
    vocabulary = [*SPECIAL, *dict.fromkeys(pieces)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "text.txt").write_text(f"{line}\n{line}\n", encoding="utf-8")
    config = CREATE_PRETRAINING_DATA.make_config(
        {
            "max_seq_length": 64,
            "max_predictions_per_seq": 16,
            "masked_lm_prob": 0.25,
            "dupe_factor": 400,
            "short_seq_prob": 0.0,
            **settings,
        }
    )
    run(str(folder / "text.txt"), str(folder / "x.tfrecord"), folder / "vocab.txt", config)
    records = open_records(folder)
    rows = records.batch(np.arange(len(records)))
    before = rows["input_ids"].copy()
    row, rank = np.nonzero(rows["masked_lm_weights"])
    before[row, rows["masked_lm_positions"][row, rank]] = rows["masked_lm_ids"][row, rank]
    chosen = np.zeros(before.shape, bool)
    chosen[row, rows["masked_lm_positions"][row, rank]] = True
    wanted = np.array([vocabulary.index(piece) for piece in pieces])
    width = len(pieces)
    found = []
    for ids, flags in zip(before, chosen):
        assert (ids[1 : width + 1] == wanted).all() and (ids[width + 2 : 2 * width + 2] == wanted).all()
        found += [set(np.flatnonzero(flags[start : start + width]).tolist()) for start in (1, width + 2)]
    return found


def units_of(words: list[str]) -> list[set[int]]:
    """The places of the characters of each word, one after the other."""
    ends = np.cumsum([len(word) for word in words]).tolist()
    return [set(range(end - len(word), end)) for word, end in zip(words, ends)]


def test_all_pieces_of_philammon_are_masked_together(tmp_path):
    pieces = ENGLISH_PIECES.split()
    name = {pieces.index(piece) for piece in ("phil", "##am", "##mon")}
    whole = predicted_sets(tmp_path / "whole", ENGLISH, pieces, do_whole_word_mask=True)
    assert all(chosen & name in (set(), name) for chosen in whole) and any(chosen & name for chosen in whole)
    single = predicted_sets(tmp_path / "single", ENGLISH, pieces, do_whole_word_mask=False)
    assert any(chosen & name not in (set(), name) for chosen in single)


@pytest.mark.parametrize(
    ("segmenter", "line"),
    [
        ("jieba", CHINESE),
        ("presegmented", CHINESE_WORDS),
        ("test_whole_words_words:words", CHINESE),
    ],
)
def test_a_chinese_sentence_is_masked_in_words(tmp_path, monkeypatch, segmenter, line):
    (tmp_path / "test_whole_words_words.py").write_text(f"def words(_): return {CHINESE_WORDS.split()!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = CHINESE_WORDS.split()
    chosen = predicted_sets(tmp_path / "out", line, list(CHINESE), do_whole_word_mask=True, segmenter=segmenter)
    for word in units_of(words):
        assert all(each & word in (set(), word) for each in chosen)
        assert any(each & word for each in chosen)
    plain = predicted_sets(tmp_path / "plain", CHINESE, list(CHINESE), do_whole_word_mask=True)
    assert any(each & word not in (set(), word) for each in plain for word in units_of(words))


def test_an_ernie_entity_is_masked_whole(tmp_path):
    spans = " ".join(f"{ERNIE.index(unit)}-{ERNIE.index(unit) + len(unit)}" for unit in ERNIE_UNITS)
    chosen = predicted_sets(
        tmp_path / "out",
        f"{ERNIE}\t{spans}",
        list(ERNIE),
        do_whole_word_mask=True,
        segmenter="spans",
        replace_per="word",
    )
    for unit in ERNIE_UNITS:
        places = set(range(ERNIE.index(unit), ERNIE.index(unit) + len(unit)))
        assert all(each & places in (set(), places) for each in chosen)
        assert any(each & places for each in chosen)


def test_a_span_out_of_place_is_refused_by_line(tmp_path):
    with pytest.raises(ValueError, match=r"span 4-99 .*哈尔滨"):
        predicted_sets(tmp_path / "out", f"{ERNIE}\t4-99", list(ERNIE), do_whole_word_mask=True, segmenter="spans")
