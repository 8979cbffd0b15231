"""The command line: `bertline VERB ...`. Bad input ends with a clear message and exit code 2."""

import os
import select
import sys
from collections.abc import Sequence

from bertline.pipelines.cli.features_verb import EXTRACT_FEATURES
from bertline.pipelines.cli.model_verbs import CONVERT, INSPECT
from bertline.pipelines.cli.pretraining_data_verb import CREATE_PRETRAINING_DATA
from bertline.pipelines.cli.run_pretraining_verb import RUN_PRETRAINING
from bertline.pipelines.cli.run_verb import RUN
from bertline.pipelines.cli.store_verbs import FETCH, GC, HISTORY, ROLLBACK
from bertline.pipelines.cli.tool_verbs import COMPILE, LINEAGE, TOKENIZE
from bertline.pipelines.cli.verbs import STEP_VERBS, FlagParser, Verb, with_underscores
from bertline.pipelines.clusters.cluster_verbs import CANCEL, LIST, LOGS, STATUS, SUBMIT
from bertline.pipelines.clusters.schedule_verbs import SCHEDULE, SCHEDULES
from bertline.preemption import PreemptedError, ended_by_signals
from bertline.progress import leave_unread, say
from bertline.settings import list_known

# Title in the help -> the verbs below it.
GROUPS: dict[str, dict[str, Verb]] = {
    "the whole pipeline": {"run": RUN, "lineage": LINEAGE},
    "its steps, in their order": {name: verb for name, verb in STEP_VERBS.items() if name != "convert"},
    # The step's verb, with the model and the folder to write as plain words.
    "models and vocabularies": {"convert": CONVERT, "inspect": INSPECT, "tokenize": TOKENIZE},
    "programs of google-research/bert, with their flags": {
        "create_pretraining_data": CREATE_PRETRAINING_DATA,
        "run_pretraining": RUN_PRETRAINING,
        "extract_features": EXTRACT_FEATURES,
    },
    "on a cluster": {
        "submit": SUBMIT,
        "status": STATUS,
        "logs": LOGS,
        "cancel": CANCEL,
        "list": LIST,
        "schedule": SCHEDULE,
        "schedules": SCHEDULES,
        "compile": COMPILE,
    },
    "a store, in a folder or a bucket": {"history": HISTORY, "rollback": ROLLBACK, "gc": GC, "fetch": FETCH},
}
VERBS = {name: verb for verbs in GROUPS.values() for name, verb in verbs.items()}
EXAMPLES = (
    "bertline run tiny",
    "bertline run tiny --dump enwiki-pages-articles.xml.bz2 --books shelf/ --vocab vocab.txt --steps_128 90000",
    "bertline convert uncased_L-12_H-768_A-12.zip bert-base --to huggingface",
)

BAD_INPUT = 2
UNREAD = 141  # 128 + SIGPIPE, as a shell has it of programs that this signal ends
TRACEBACK_VARIABLE = "BERTLINE_TRACEBACK"  # set it to see where an error came from
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR"}  # what TensorFlow says of absent GPUs helps nobody
# What a light install (requirements-light.lock) leaves out.
HEAVY = ("tensorflow", "tensorflow_transform", "keras")
NOT_INSTALLED = "is not installed (a light install leaves it out), and this command needs it: `make install` adds it"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the process's exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    if not given or given[0] not in VERBS:
        return _answer_without_verb(given)
    name, *rest = given
    parser = FlagParser(prog=f"bertline {name}", description=f"{VERBS[name].summary}.", epilog=VERBS[name].example)
    try:
        with ended_by_signals(f"bertline {name}"):
            VERBS[name].add_flags(parser)
            return VERBS[name].run(parser.parse_args(with_underscores(rest)))
    except PreemptedError as error:
        say(f"bertline {name}: {error}")
        return error.exit_code
    except BrokenPipeError as error:
        return _end_unread(name, error)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in HEAVY:
            raise
        say(f"bertline {name}: error: {missing} {NOT_INSTALLED}")
        return BAD_INPUT
    except (ValueError, OSError) as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            import traceback

            traceback.print_exc()
        say(f"bertline {name}: error: {error}")
        return BAD_INPUT


def _end_unread(name: str, error: BrokenPipeError) -> int:
    """Quietly, as other programs do, where it is standard output that nobody reads any more (`| head`)."""
    standard_output = select.poll()
    standard_output.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in standard_output.poll(0)):
        say(f"bertline {name}: error: {error}")
        return BAD_INPUT
    leave_unread(sys.stdout)
    return UNREAD


def _answer_without_verb(given: Sequence[str]) -> int:
    """Help, the version, or what is wrong."""
    if not given or given[0] in ("-h", "--help", "help"):
        print(describe_verbs())
        return 0 if given else BAD_INPUT
    if given[0] in ("--version", "version"):
        from importlib.metadata import version

        print(f"bertline {version('bertline')}")
        return 0
    print(f'bertline: error: unknown verb "{given[0]}"{list_known(given[0], VERBS)}', file=sys.stderr)
    return BAD_INPUT


def describe_verbs() -> str:
    """The verbs with a line each."""
    from bertline.pipelines.cli.help import format_verbs

    groups = {title: {name: verb.summary for name, verb in verbs.items()} for title, verbs in GROUPS.items()}
    return format_verbs(groups, EXAMPLES)


if __name__ == "__main__":
    sys.exit(main())
