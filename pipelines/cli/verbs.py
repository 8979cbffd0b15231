"""The command line's verbs: one per step, from its declaration, and those for text, whole pipelines and stores."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bertline.components.declaration import Step, make, vocab_file
from bertline.components.step_table import STEPS
from bertline.files import draft_of
from bertline.pipelines.cli.flags import add_config_flags, config_from_flags
from bertline.pipelines.cli.tables import print_counts

Flags = argparse.Namespace
Parser = argparse.ArgumentParser


@dataclass(frozen=True)
class Verb:
    """A verb of the command line."""

    summary: str
    example: str
    add_flags: Callable[[Parser], None]
    run: Callable[[Flags], int]  # the exit code


def step_verb(step: Step) -> Verb:
    """The verb that makes a step's artifact and prints its counts."""
    return Verb(step.summary, step.example, partial(_step_flags, step), partial(_run_step, step))


def _step_flags(step: Step, parser: Parser) -> None:
    """The inputs, the output and a flag per setting."""
    for name, each in step.inputs.items():
        parser.add_argument(f"--{name}", required=not each.optional, metavar="PATH", help=each.help)
    parser.add_argument("--out", required=True, metavar="PATH", help="what to write; must not exist yet")
    parser.add_argument("--config", metavar="FILE", help="JSON or TOML file of settings; flags win over it")
    add_config_flags(parser, step.config_class())


def _run_step(step: Step, flags: Flags) -> int:
    out, inputs = Path(flags.out), {name: getattr(flags, name) for name in step.inputs}
    config = config_from_flags(flags, step.config_class())
    if not step.only_file:
        print_counts(make(step, out, config, inputs))
        return 0
    if out.is_dir():
        raise IsADirectoryError(f"{out}: is a folder; give the file to write, for example {out / step.only_file}")
    made = make(step, out.with_name(f"{out.name}.artifact"), config, inputs)
    with draft_of(out) as draft:
        shutil.copyfile(made.path / step.only_file, draft)
    print_counts(made)
    return 0


def _tokenize_flags(parser: Parser) -> None:
    parser.add_argument("--vocab", required=True, metavar="PATH", help="vocab.txt, or a vocabulary artifact")
    parser.add_argument("--cased", action="store_true", help="keep case and accents")
    parser.add_argument("--json", action="store_true", help="each input line is a JSON string")


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

    parser.add_argument("--platform", choices=[*PLATFORMS, "all"], default="all", help="what to compile for")
    parser.add_argument("--out", default="build/pipelines", metavar="DIR", help="folder of the YAML files")


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
    parser.add_argument("--store", default="out/store", metavar="DIR", help="folder of artifacts (default: out/store)")
    parser.add_argument("--run", default="", metavar="NAME", dest="of_run", help="show this run's artifacts only")
    parser.add_argument("--out", default="out/lineage.html", metavar="FILE", help="the page to write")


def _lineage(flags: Flags) -> int:
    from bertline.components.pages.lineage import write_page

    write_page(Path(flags.store), Path(flags.out), flags.of_run)
    print(f"written: {flags.out}")
    return 0


VERBS = {
    **{name: step_verb(step) for name, step in STEPS.items()},
    "tokenize": Verb(
        "standard input -> word-piece ids, one JSON list a line",
        "echo 'unwanted running' | bertline tokenize --vocab vocab.txt",
        _tokenize_flags,
        _tokenize,
    ),
    "compile": Verb(
        "write the pipeline for kfp.local, Kubeflow Pipelines and Vertex AI",
        "bertline compile --platform vertex",
        _compile_flags,
        _compile,
    ),
    "lineage": Verb(
        "draw the page that shows what was made from what",
        "bertline lineage --store out/store --out lineage.html",
        _lineage_flags,
        _lineage,
    ),
}
