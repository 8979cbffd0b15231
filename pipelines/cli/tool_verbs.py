"""The command line's verbs beside the steps: tokenize, compile, lineage."""

import argparse
import json
import shlex
import sys
from pathlib import Path

from bertline.components.declaration import vocab_file
from bertline.components.store.artifacts import make_writable
from bertline.pipelines.cli.store_verbs import store_flag
from bertline.pipelines.cli.verbs import STEP_VERBS, FlagParser, Flags, Parser, Verb, with_underscores

TRAIN_JOB = "trainjob"


def _tokenize_flags(parser: Parser) -> None:
    group = parser.add_argument_group("how text is read")
    group.add_argument("--vocab", required=True, metavar="PATH", help="A vocab.txt, or a vocabulary artifact.")
    group.add_argument("--cased", action="store_true", help="Keep case and accents.")
    group.add_argument("--json", action="store_true", help="Read each input line as a JSON string.")


def _tokenize(flags: Flags) -> int:
    """Standard input to ids, one JSON list a line."""
    from bertline.tokenizer.wordpiece import WordPieceTokenizer, load_vocabulary

    vocabulary = load_vocabulary(vocab_file(Path(flags.vocab)))
    tokenizer = WordPieceTokenizer(vocabulary, do_lower_case=not flags.cased)
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        line = raw.decode("utf-8", errors="ignore").rstrip("\n")
        print(json.dumps(tokenizer.encode(_parse_json_string(line, number) if flags.json else line)))
    return 0


def _parse_json_string(line: str, number: int) -> str:
    try:
        text = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"standard input:{number}: not a JSON string ({error})") from error
    if not isinstance(text, str):
        raise ValueError(f"standard input:{number}: a JSON string is wanted, not {type(text).__name__}")
    return text


def _compile_flags(parser: Parser) -> None:
    from bertline.pipelines.placing.settings import FIELDS
    from bertline.pipelines.platforms import PLATFORMS

    group = parser.add_argument_group("what is written")
    group.add_argument(
        "--platform",
        choices=[*PLATFORMS, TRAIN_JOB, "all"],
        default="all",
        help="The platform to compile for: a "
        "part of all, or trainjob, a training on several machines of Kubernetes (default: all).",
    )
    group.add_argument(
        "--out",
        default="build/pipelines",
        metavar="DIR",
        help="The folder of the YAML files (default: build/pipelines).",
    )
    group = parser.add_argument_group("a training on several machines (--platform=trainjob)")
    group.add_argument("--pretrain", metavar="FLAGS", help="The flags of `bertline pretrain`, in quotes. Its files lie "
                       "below /bertline, the store's claim, which all machines mount, or in a bucket.")  # fmt: skip
    group.add_argument("--hosts", type=int, default=2, metavar="N", help="So many machines (default: 2).")
    group.add_argument("--job", default="bertline-pretrain", metavar="NAME", help="What the job is called (default: "
                       "bertline-pretrain).")  # fmt: skip
    for field in FIELDS:
        parser.add_argument(f"--resources.{field}", help=argparse.SUPPRESS)


def _compile(flags: Flags) -> int:
    from bertline.pipelines.platforms import PLATFORMS
    from bertline.pipelines.pretraining import compile_pipeline

    make_writable(Path(flags.out))
    if flags.platform == TRAIN_JOB:
        return _write_train_job(flags)
    for name, platform in PLATFORMS.items():
        if flags.platform in (name, "all"):
            path = Path(flags.out) / f"pretraining.{name}.yaml"
            compile_pipeline(platform, str(path))
            print(f"written: {path}")
    return 0


def _write_train_job(flags: Flags) -> int:
    import yaml

    from bertline.components.steps import find_image
    from bertline.pipelines.placing.settings import read_resources
    from bertline.pipelines.placing.several_hosts import write_train_job

    if not flags.pretrain:
        raise ValueError('give --pretrain="--records=... --vocab=... --model=... --out=...", the flags of the training')
    words = with_underscores(shlex.split(flags.pretrain))
    parser = FlagParser(prog="bertline pretrain")
    STEP_VERBS["pretrain"].add_flags(parser)
    parser.parse_args(words)
    settings = {name: value for name, value in vars(flags).items() if name.startswith("resources.") and value}
    documents = write_train_job(flags.job, find_image(), read_resources(settings), flags.hosts, words)
    path = Path(flags.out) / f"{flags.job}.yaml"
    path.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
    print(f"written: {path}\nnext: kubectl apply -f {path}")
    return 0


def _lineage_flags(parser: Parser) -> None:
    group = store_flag(parser)
    group.add_argument("--run", default="", metavar="NAME", dest="of_run", help="Show the artifacts of this run alone.")
    group.add_argument(
        "--out", default="out/lineage.html", metavar="FILE", help="The page to write (default: out/lineage.html)."
    )


def _lineage(flags: Flags) -> int:
    from bertline.components.pages.lineage import write_page
    from bertline.components.store.remote import open_store

    write_page(open_store(flags.store), Path(flags.out), flags.of_run)
    print(f"written: {flags.out}")
    return 0


TOKENIZE = Verb(
    "Turn lines of standard input into ids of word pieces",
    "echo 'unwanted running' | bertline tokenize --vocab vocab.txt",
    _tokenize_flags,
    _tokenize,
)
COMPILE = Verb(
    "Write the pipeline for kfp.local, Kubeflow Pipelines and Vertex AI",
    "bertline compile --platform vertex\n"
    "A training on 4 machines with 4 chips each:\n"
    "bertline compile --platform trainjob --hosts 4 --resources.accelerator tpu-v5e --pretrain='--records="
    "/bertline/records_128 --vocab=/bertline/vocab.txt --model=large --out=/bertline/checkpoint_128'",
    _compile_flags,
    _compile,
)
LINEAGE = Verb(
    "Draw the page that shows what was made from what",
    "bertline lineage --store out/store --out lineage.html",
    _lineage_flags,
    _lineage,
)
