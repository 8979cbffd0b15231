"""What a step on a cluster says can be read by others while it works, and when it was ended."""

import sys
from pathlib import Path

import pytest

from bertline.components.store import step_log
from bertline.components.store.artifacts import Store
from bertline.components.store.folder import Folder
from bertline.components.store.step_log import keeping_log, read_logs
from bertline.preemption import PreemptedError


class Elsewhere(Store):
    """A store that notes what is carried away."""

    shared: list[str]

    def share_note(self, name: str) -> None:
        self.shared.append((self.root / name).read_text())


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    monkeypatch.setattr(step_log, "SECONDS_BETWEEN_LOOKS", 0.01)
    store = Elsewhere(tmp_path)
    object.__setattr__(store, "shared", [])
    return store


def test_both_streams_are_kept_and_shown(store: Elsewhere, capsys: pytest.CaptureFixture[str]) -> None:
    with keeping_log(store, "run", "split"):
        print("a sentence")
        print("of progress", file=sys.stderr)
        while not store.shared:
            pass
    assert store.shared[-1] == "a sentence\nof progress\n"
    assert capsys.readouterr() == ("a sentence\n", "of progress\n")
    ((name, text),) = read_logs(store.objects, "run")
    assert (name.partition(".")[0], text) == ("split", "a sentence\nof progress\n")


@pytest.mark.parametrize(
    ("error", "kept"),
    [(PreemptedError("ended by SIGTERM"), "split: ended by SIGTERM\n"), (KeyError("page"), "KeyError: 'page'\n")],
)
def test_the_error_that_ends_a_step_is_kept(store: Elsewhere, error: BaseException, kept: str) -> None:
    with pytest.raises(type(error)), keeping_log(store, "run", "split"):
        raise error
    assert store.shared[-1].endswith(kept)


def test_all_tries_of_a_task_are_shown_in_order(store: Elsewhere) -> None:
    folder = store.root / "runs" / "run" / "logs"
    folder.mkdir(parents=True)
    for name in ("b.20260101-000001.log", "a.20260101-000000.log", "a.20260102-000000.log"):
        (folder / name).write_text(name)
    assert [name for name, _ in read_logs(store.objects, "run")] == [
        "a.20260101-000000.log",
        "b.20260101-000001.log",
        "a.20260102-000000.log",
    ]
    assert [text for _, text in read_logs(store.objects, "run", "a")] == [
        "a.20260101-000000.log",
        "a.20260102-000000.log",
    ]


def test_what_is_no_log_is_passed_over(tmp_path: Path) -> None:
    objects = Folder(tmp_path)
    for name in ("split.20270101-000000-000000.log", "README", "x.log"):
        objects.write(f"runs/r/logs/{name}", b"said")
    assert [name for name, _ in read_logs(objects, "r")] == ["split.20270101-000000-000000.log"]
