"""The command line's verbs beside the steps: tokenize, compile, lineage."""

import json
import sys
from pathlib import Path

from bertline.components.declaration import vocab_file
from bertline.pipelines.cli.store_verbs import store_flag
from bertline.pipelines.cli.verbs import Flags, Parser, Verb


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
    from bertline.pipelines.platforms import PLATFORMS

    group = parser.add_argument_group("what is written")
    group.add_argument(
        "--platform", choices=[*PLATFORMS, "all"], default="all", help="The platform to compile for (default: all)."
    )
    group.add_argument(
        "--out",
        default="build/pipelines",
        metavar="DIR",
        help="The folder of the YAML files (default: build/pipelines).",
    )


def _compile(flags: Flags) -> int:
    from bertline.pipelines.platforms import PLATFORMS
    from bertline.pipelines.pretraining import compile_pipeline

    for name, platform in PLATFORMS.items():
        if flags.platform in (name, "all"):
            path = Path(flags.out) / f"pretraining.{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            compile_pipeline(platform, str(path))
            print(f"written: {path}")
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
    "bertline compile --platform vertex",
    _compile_flags,
    _compile,
)
LINEAGE = Verb(
    "Draw the page that shows what was made from what",
    "bertline lineage --store out/store --out lineage.html",
    _lineage_flags,
    _lineage,
)
