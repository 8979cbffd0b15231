"""The check's own environments of tools, made from pinned versions on first use."""

import hashlib
import subprocess
import sys
import time
import venv
from pathlib import Path

from infra.check.finding import Unchecked

HERE = Path(__file__).parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
DEFAULT_FOLDER = HERE.parents[1] / "build" / "infra"
SECONDS_BETWEEN_LINES = 15.0  # of progress, where it is not a terminal
# Lock of infra/check -> what it is for, what it takes. The provider's is a wheel to look into, installed nowhere.
TOOLS, CHECKOV, PROVIDER = "tools", "checkov", "provider"
SIZES = {TOOLS: "75 MB to download, 330 MB on disk", CHECKOV: "100 MB to download, 500 MB on disk", PROVIDER: "67 MB"}


def lock_of(name: str) -> Path:
    """The pinned versions of an environment."""
    return HERE / f"requirements-{name}.lock"


def prepare(name: str, folder: Path) -> Path:
    """The environment `name` below `folder`, made if it is not there; Unchecked where pip cannot."""
    place, lock = folder / name, lock_of(name)
    mark = place / ".ready"
    wanted = f"{hashlib.sha256(lock.read_bytes()).hexdigest()} {sys.version_info[:2]}"
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return place
    packages = len(lock.read_text(encoding="utf-8").splitlines())
    print(f"Installing {lock.name} into {place}: {packages} packages, {SIZES[name]}.", flush=True)
    place.mkdir(parents=True, exist_ok=True)
    if name == PROVIDER:
        command = [*PIP, "download", "--no-deps", f"--dest={place}", f"--requirement={lock}"]
    else:
        venv.create(place, clear=True, with_pip=True)
        command = [str(place / "bin" / "python"), *PIP[1:], "install", f"--requirement={lock}"]
    _run_with_progress(command, folder / f"{name}.log", packages)
    mark.write_text(wanted, encoding="utf-8")
    return place


def _run_with_progress(command: list[str], log: Path, packages: int) -> None:
    """Run pip, and say from time to time how far it is."""
    every = 1.0 if sys.stdout.isatty() else SECONDS_BETWEEN_LINES
    with log.open("w", encoding="utf-8") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        shown = time.monotonic()
        while process.poll() is None:
            time.sleep(0.1)
            if time.monotonic() - shown >= every:
                shown = time.monotonic()
                print(f"  {_describe(log, packages)}", end="\r" if sys.stdout.isatty() else "\n", flush=True)
    if process.returncode:
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
        raise Unchecked(f"pip failed ({lines[-1].strip() if lines else 'silently'}); all it said is in {log}")


def _describe(log: Path, packages: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if any(line.startswith("Installing collected") for line in lines):
        return "all downloaded, unpacking          "
    done = sum(line.startswith("Collecting ") for line in lines)
    return f"{min(done, packages)} of {packages} packages looked at"


def find_wheel(folder: Path) -> Path:
    """The wheel with the provider's schema."""
    (wheel,) = (folder / PROVIDER).glob("*.whl")
    return wheel
