"""The command line's verbs for models of any format: convert, inspect."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertline.components.declaration import make
from bertline.components.step_table import ANY_MODEL, STEPS
from bertline.pipelines.cli.verbs import (
    INPUT_AND_OUTPUT,
    NEW_FOLDER,
    Flags,
    Parser,
    Verb,
    add_config_flags,
    as_sentence,
    config_from_flags,
)

if TYPE_CHECKING:
    from bertline.model.formats.loaded_model import LoadedModel

STEP = STEPS["convert"]


def _files_flags(group: Any, *names: str) -> None:
    for name in names:
        group.add_argument(f"--{name}", metavar="PATH", help=as_sentence(STEP.inputs[name].help).replace("%", "%%"))


def _convert_flags(parser: Parser) -> None:
    group = parser.add_argument_group(INPUT_AND_OUTPUT)
    group.add_argument("source", metavar="SRC", help=as_sentence(ANY_MODEL))
    group.add_argument("target", metavar="DST", help=NEW_FOLDER)
    _files_flags(group, "vocab_file", "bert_config_file", "new_vocab")
    add_config_flags(parser, STEP.config_class())


def _convert(flags: Flags) -> int:
    from bertline.pipelines.cli.tables import print_counts

    config, inputs = config_from_flags(flags, STEP.config_class()), {name: getattr(flags, name) for name in STEP.inputs}
    print_counts(make(STEP, Path(flags.target), config, inputs, tell=_show))
    return 0


def _show(opened: "LoadedModel") -> None:
    from bertline.model.formats.describe import describe_model
    from bertline.pipelines.cli.tables import print_facts

    print_facts(str(opened.path), describe_model(opened))


def _inspect_flags(parser: Parser) -> None:
    group = parser.add_argument_group("what is shown")
    one = group.add_mutually_exclusive_group(required=True)
    one.add_argument("path", nargs="?", metavar="PATH", help=as_sentence(ANY_MODEL))
    one.add_argument("--presets", action="store_true", help="List the released sizes with their parameters instead.")
    _files_flags(group, "vocab_file", "bert_config_file")
    group.add_argument("--variables", action="store_true", help="List every variable with its shape.")
    group.add_argument("--json", action="store_true", help="Show it as JSON.")


def _inspect(flags: Flags) -> int:
    from bertline.model.formats.describe import describe_model, list_released_models, list_variables
    from bertline.model.formats.detect import read_model
    from bertline.pipelines.cli.tables import print_facts, print_rows

    if flags.presets:
        rows = list_released_models()
        print(json.dumps(rows, indent=1)) if flags.json else print_rows("released sizes of BERT", rows)
        return 0
    vocab_file, config_file = (Path(path) if path else None for path in (flags.vocab_file, flags.bert_config_file))
    opened = read_model(Path(flags.path), vocab_file=vocab_file, bert_config_file=config_file)
    found, listed = describe_model(opened), list_variables(opened) if flags.variables else []
    if flags.json:
        print(json.dumps(found | ({"list of variables": listed} if listed else {}), indent=1, ensure_ascii=False))
        return 0
    print_facts(flags.path, found)
    if listed:
        print_rows("variables", listed)
    return 0


CONVERT = Verb(STEP.summary, STEP.example, _convert_flags, _convert)
INSPECT = Verb(
    "Say what a model of any format is: size, vocabulary, case, heads",
    "bertline inspect uncased_L-12_H-768_A-12.zip",
    _inspect_flags,
    _inspect,
)
