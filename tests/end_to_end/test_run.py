"""The whole pipeline by kfp.local, on the example corpus with a budget of a few steps."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertline.components.store.manifests import crawl, verify

ROOT = Path(__file__).parents[2]
Finished = tuple[Path, "subprocess.CompletedProcess[str]"]
BUDGET = [
    "--steps_128=4",
    "--steps_512=2",
    "--batch=4",
    "--vocab_size=1500",
    "--evaluate_examples=8",
    "--finetune_epochs=0.5",
    "--finetune_length=32",
]
GRAPH = "--jit_compile=false"  # is made in half the time that XLA takes, and makes all that is trained anew
STEPS = [
    "ingest",
    "split",
    "vocabulary",
    "prepare_128",
    "prepare_512",
    "heldout_128",
    "heldout_512",
    "pretrain_128",
    "pretrain_512",
    "evaluate_128",
    "evaluate_512",
    "finetune_mrpc",
    "finetune_sst2",
    "export",
]


def command(out: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "bertline", "run", "tiny", f"--out={out}", *BUDGET, *flags]


def run_tiny(out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(out, *flags), cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A whole run: its folder, and what it said."""
    out = tmp_path_factory.mktemp("run") / "out"
    ended = run_tiny(out)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return out, ended


@pytest.mark.slow
def test_every_step_leaves_a_whole_artifact(finished: Finished) -> None:
    out, _ = finished
    assert sorted(link.name for link in (out / "latest").iterdir()) == sorted(STEPS)
    for step in STEPS:
        verify(out / "latest" / step)
    assert not list((out / "store").rglob("*.work"))
    assert not list((out / "store").rglob("*.tmp"))


@pytest.mark.slow
def test_each_step_says_which_one_of_how_many_it_is(finished: Finished) -> None:
    numbers = re.findall(rf"^step (\d+) of {len(STEPS)}: \w+$", finished[1].stderr, re.MULTILINE)
    assert list(map(int, numbers)) == list(range(1, len(STEPS) + 1))


@pytest.mark.slow
def test_a_terminal_keeps_a_line_of_progress_for_each_step_and_the_messages(
    finished: Finished, tmp_path: Path, terminal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data are there already."""
    monkeypatch.chdir(tmp_path)  # so that paths are short, and no message has a word that is longer than a line
    shutil.copytree(finished[0] / "store", "out/store")
    shown = terminal(command(Path("out"), GRAPH), 80)
    assert shown.exit_code == 0, "\n".join(shown.lines)
    before_tables = shown.lines[: shown.lines.index("steps")]
    assert max(map(len, [*before_tables, *shown.drawn])) < 80
    assert not [line for line in shown.lines if "[#" in line or "[." in line]
    told = [re.match(r"(\w+): (\d+)/\2 (steps|examples), ", line) for line in before_tables]
    trained = [step for step in STEPS if step.startswith(("pretrain", "evaluate", "finetune"))]
    assert sorted(match[1] for match in told if match) == sorted(trained)
    for step in STEPS:
        assert len([line for line in before_tables if re.fullmatch(rf"step \d+ of 14: {step}", line)]) == 1
        assert len([line for line in before_tables if re.match(rf"{step}: (made before|done in )", line)]) == 1
    assert [line for line in shown.drawn if line.startswith("pretrain_128: ") and line.endswith(", compiling")]


@pytest.mark.slow
def test_the_last_table_holds_the_scores_and_says_where_things_lie(finished: Finished) -> None:
    out, shown = finished[0], finished[1].stdout
    for name in ("masked-LM loss, 128", "next sentences, 512", "mrpc: accuracy", "sst2: accuracy", "verdict"):
        assert name in shown
    assert [line.split()[0] for line in shown.split("artifact")[1].splitlines()[2 : 2 + len(STEPS)]] == STEPS
    assert "next: " in shown
    assert re.search(r"whole run: \d+\.\d minutes", shown)
    page = Path(re.search(r"lineage page +(\S+)", shown).group(1))
    text = (page if page.is_absolute() else ROOT / page).read_text(encoding="utf-8")
    assert text.count("<rect ") >= len(STEPS) + 4  # the artifacts, and the dump, two books and the tasks' files
    assert (out / "latest" / "export" / "model.safetensors").is_file()
    assert len(list((out / "store").rglob("events.out.tfevents.*"))) >= 2


@pytest.mark.slow
def test_the_schedule_ends_at_the_last_step_of_stage_512(finished: Finished) -> None:
    out, _ = finished
    states = [
        json.loads((out / "latest" / stage / "training_state.json").read_text())["step"]
        for stage in ("pretrain_128", "pretrain_512")
    ]
    assert states == [4, 6]


@pytest.mark.slow
def test_held_out_documents_are_in_no_training_record(finished: Finished) -> None:
    out, _ = finished
    counts = {
        step: json.loads((out / "latest" / step / "MANIFEST.json").read_text())["counts"]
        for step in ("split", "prepare_128", "heldout_128")
    }
    assert counts["prepare_128"]["documents"] + counts["heldout_128"]["documents"] == counts["split"]["documents"]
    assert counts["heldout_128"]["documents"] >= 1


@pytest.mark.slow
def test_the_same_command_again_repeats_no_step(finished: Finished) -> None:
    out, _ = finished
    before = {path: (path / "RUN.json").read_bytes() for path in crawl(out / "store")}
    again = run_tiny(out)
    assert again.returncode == 0, again.stderr
    assert {path: (path / "RUN.json").read_bytes() for path in crawl(out / "store")} == before
    assert again.stderr.count("made before, kept") == len(STEPS)


@pytest.mark.slow
def test_what_two_steps_would_refuse_is_said_by_the_first_and_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("A document that is alone, so that none can be held out.\n\nIts end.\n" * 9)
    ended = run_tiny(tmp_path / "out", f"--text={tmp_path / 'text.txt'}", "--heldout_share=0.000001", "--vocab_size=50")
    assert ended.returncode == 2
    assert ended.stderr.count('none of its 1 documents is in part "heldout"') == 2, ended.stderr


def test_a_step_that_refuses_its_input_ends_the_run_with_2_and_says_why(tmp_path: Path) -> None:
    dump = tmp_path / "cut.xml"
    dump.write_bytes((ROOT / "examples" / "encyclopedia.xml").read_bytes()[:60_000])
    ended = run_tiny(tmp_path / "out", f"--dump={dump}")
    assert ended.returncode == 2
    assert "cut.xml" in ended.stderr
    assert "allow_truncated" in ended.stderr
    assert list(crawl(tmp_path / "out")) == []


@pytest.fixture
def interrupt(program: Callable[..., Any]) -> Callable[..., str]:
    """What a run says that gets a signal, as all that a terminal started does (or `alone`); its exit code follows."""

    def run(command: list[str], number: signal.Signals, once: Callable[[str], object], alone: bool = False) -> str:
        started = program(command, ROOT)
        code = started.end(number, lambda it: once(it.said), alone=alone)
        assert code == (130 if number == signal.SIGINT else 75)
        return started.said

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "name", "alone"),
    [(signal.SIGTERM, "SIGTERM", True), (signal.SIGTERM, "SIGTERM", False), (signal.SIGINT, "Ctrl-C", False)],
)
def test_a_signal_saves_the_step_and_the_same_command_goes_on_from_there(
    number: signal.Signals, name: str, alone: bool, interrupt, finished: Finished, tmp_path: Path
) -> None:
    """The data are there already, so that the run soon comes to its training."""
    out, flags = tmp_path / "out", ["--steps_128=300", "--save_every=5", GRAPH]
    shutil.copytree(finished[0] / "store", out / "store")
    shown = interrupt(
        command(out, *flags), number, lambda said: list((out / "store").rglob("*.work/snapshot-*")), alone
    )
    (step,) = re.findall(rf"pretrain_128: ended at step (\d+) by {name}, all of it saved", shown)
    kept = "finished steps are kept, with what the one at work has saved; the same command goes on from there"
    assert shown.endswith(f"bertline run: ended by {name}; {kept}\n")
    newest = max(path.name for path in (out / "store").rglob("*.work/snapshot-*"))
    assert int(step) == int(newest.removeprefix("snapshot-")) < 300
    if number != signal.SIGINT:
        return
    again = run_tiny(out, *flags)
    assert again.returncode == 0, again.stderr
    assert f"training goes on from step {step}, its newest snapshot" in again.stderr
    assert json.loads((out / "latest" / "pretrain_512" / "training_state.json").read_text())["step"] == 302


@pytest.mark.slow
def test_after_ctrl_c_in_fine_tuning_no_other_task_is_begun(interrupt, finished: Finished, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", ["save_checkpoints_steps=1", "jit_compile=false"]
    flags = ["--finetune_epochs=200", *(f"--finetune.{setting}" for setting in settings)]
    shutil.copytree(finished[0] / "store", out / "store")
    works = "store/finetuned_*/*.work/snapshot-*"
    shown = interrupt(command(out, *flags), signal.SIGINT, lambda said: list(out.glob(works)))
    (task,) = re.findall(r"finetune_(\w+): ended at step \d+ by Ctrl-C, all of it saved", shown)
    assert not re.findall(rf"finetune_(?!{task})", shown)
    log = max((out / "store" / "runs").glob("*/log.txt"))  # the other is of the run whose store this was
    assert len(re.findall("Executing task.*finetune", log.read_text(encoding="utf-8"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("begun", ["run tiny-", "ingest: "], ids=["before the first step", "after the first step"])
def test_ctrl_c_between_steps_begins_no_other(begun: str, interrupt, tmp_path: Path) -> None:
    shown = interrupt(command(tmp_path / "out"), signal.SIGINT, lambda said: begun in said)
    assert "bertline run: ended by Ctrl-C; finished steps are kept" in shown
    assert "split: " not in shown
    assert not list((tmp_path / "out" / "store").rglob(".*.tmp"))
