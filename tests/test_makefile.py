"""Settings of make reach the command as they are, and a misspelt one is refused."""

import os
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def dry_run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """What make would do, as from a shell: `make test`, which runs this, hands flags and a level down."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    argv = ["make", "--dry-run", *arguments]
    return subprocess.run(argv, cwd=ROOT, env=own, capture_output=True, text=True, check=False)


def test_a_misspelt_setting_is_refused_before_any_work() -> None:
    ended = dry_run("pretrain-tiny", "STEP_128=5")
    assert ended.returncode == 2
    assert dry_run("install", "LIGHT=maybe").stderr.endswith("LIGHT is maybe; it is yes or no.  Stop.\n")
    assert "unknown setting STEP_128; known: " in ended.stderr and "STEPS_128" in ended.stderr


def test_paths_keep_their_blanks_and_quotes() -> None:
    paths = {
        "OUT": "my run's/a",
        "DUMP": "my dumps/b.xml",
        "BOOKS": "my books",
        "VOCAB": "my vocab.txt",
        "MODEL": "m y",
    }
    shown = dry_run("pretrain-tiny", *(f"{name}={path}" for name, path in paths.items())).stdout
    arguments = shlex.split(shown.splitlines()[-1])
    assert {f"--{name.lower()}={path}" for name, path in paths.items()} <= set(arguments)
    assert "'my runs/a/store'" in dry_run("lineage", "OUT=my runs/a").stdout
