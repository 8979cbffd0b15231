"""The command line: `bertline VERB ...`. Bad input ends with a clear message and exit code 2."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from bertline.pipelines.cli import verbs
from bertline.pipelines.cli.features_verb import EXTRACT_FEATURES
from bertline.pipelines.cli.model_verbs import CONVERT, INSPECT
from bertline.pipelines.cli.pretraining_data_verb import CREATE_PRETRAINING_DATA
from bertline.pipelines.cli.run_pretraining_verb import RUN_PRETRAINING
from bertline.pipelines.cli.run_verb import RUN
from bertline.pipelines.cli.verbs import FlagParser, with_underscores
from bertline.preemption import TRY_AGAIN, PreemptedError
from bertline.settings import suggest

VERBS = {
    **verbs.VERBS,
    "convert": CONVERT,  # the step's verb, with the model and the folder to write as plain words
    "inspect": INSPECT,
    "create_pretraining_data": CREATE_PRETRAINING_DATA,
    "run_pretraining": RUN_PRETRAINING,
    "extract_features": EXTRACT_FEATURES,
    "run": RUN,
}

BAD_INPUT = 2
INTERRUPTED = 130
TRACEBACK_VARIABLE = "BERTLINE_TRACEBACK"  # set it to see where an error came from
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR"}  # what TensorFlow says of absent GPUs helps nobody


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the process's exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    if not given or given[0] in ("-h", "--help", "help"):
        print(describe_verbs())
        return 0 if given else BAD_INPUT
    name, *rest = given
    if name not in VERBS:
        known = f"{', '.join(VERBS)}{suggest(name, VERBS)}"
        print(f'bertline: error: unknown verb "{name}"; known: {known}', file=sys.stderr)
        return BAD_INPUT
    verb = VERBS[name]
    parser = FlagParser(
        prog=f"bertline {name}",
        description=verb.summary,
        epilog=f"example:\n  {verb.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.add_flags(parser)
    try:
        return verb.run(parser.parse_args(with_underscores(rest)))
    except KeyboardInterrupt:
        print("bertline: interrupted; give the same command again", file=sys.stderr)
        return INTERRUPTED
    except PreemptedError as error:
        print(f"bertline {name}: {error}", file=sys.stderr)
        return TRY_AGAIN
    except (ValueError, OSError) as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        print(f"bertline {name}: error: {error}", file=sys.stderr)
        return BAD_INPUT


def describe_verbs() -> str:
    """The verbs with a line each."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:{width}}  {verb.summary}" for name, verb in VERBS.items())
    return (
        "usage: bertline VERB [flags]\n\n"
        "From a Wikipedia dump and a shelf of books to a pretrained, evaluated and exported BERT.\n\n"
        f"{verbs}\n\n`bertline VERB --help` shows the flags and an example."
    )


if __name__ == "__main__":
    sys.exit(main())
