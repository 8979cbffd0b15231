"""The program: `bertline VERB ...`, or `python -m bertline VERB ...`, which signals end cleanly from the start."""

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb of the command line (of the process's, without `argv`); returns the exit code."""
    try:
        return _run(argv)
    except KeyboardInterrupt:  # before the signals are taken over
        print("bertline: ended by Ctrl-C", file=sys.stderr)
        return 130  # 128 + SIGINT


def _run(argv: Sequence[str] | None) -> int:
    from bertline.preemption import INTERRUPTED, TRY_AGAIN, PreemptedError, ended_by_signals
    from bertline.processes import leave
    from bertline.progress import say

    name = " ".join(["bertline", *(sys.argv[1:] if argv is None else argv)[:1]])
    try:
        with ended_by_signals(name):
            from bertline.pipelines.cli.main import main as run_verb  # loads much, and may be interrupted
    except PreemptedError as error:
        say(f"{name}: {error}")
        code = error.exit_code
    else:
        code = run_verb(argv)
    if argv is None and code in (TRY_AGAIN, INTERRUPTED):
        leave(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
