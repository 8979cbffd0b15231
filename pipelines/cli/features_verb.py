"""The command line's verb extract_features, with the flags of google-research/bert's extract_features.py."""

from pathlib import Path

from bertline.components.declaration import vocab_file
from bertline.components.step_table import ANY_MODEL
from bertline.pipelines.cli import originals
from bertline.pipelines.cli.verbs import INPUT_AND_OUTPUT, Flags, Parser, Verb, as_sentence


def _flags(parser: Parser) -> None:
    group = parser.add_argument_group(INPUT_AND_OUTPUT)
    group.add_argument("--input_file", required=True, metavar="FILE", help='The input, a text a line, or two with '
                       '" ||| " between them; - is standard input.')  # fmt: skip
    group.add_argument("--output_file", required=True, metavar="FILE", help="The file to write; an old one is "
                       "replaced.")  # fmt: skip
    models = group.add_mutually_exclusive_group(required=True)
    models.add_argument("--init_checkpoint", metavar="PATH", help="A TF1 checkpoint, such as bert_model.ckpt.")
    models.add_argument("--model", metavar="PATH", help=as_sentence(ANY_MODEL))
    group.add_argument("--bert_config_file", metavar="FILE", help="A bert_config.json (default: the model's own).")
    group.add_argument("--vocab_file", metavar="PATH", help="A vocab.txt (default: the model's own).")
    group.add_argument("--do_lower_case", nargs="?", const="true", choices=_BOOLEANS, metavar="{true,false}",
                       help="Whether the text is lower-cased (default: true with --init_checkpoint, as the original; "
                       "with --model what the model says).")  # fmt: skip
    originals.EXTRACT_FEATURES.add_flags(parser)


_BOOLEANS = ("true", "True", "false", "False")


def _extract_features(flags: Flags) -> int:
    from bertline.model.features.run import run
    from bertline.pipelines.cli.tables import print_figures

    config = originals.EXTRACT_FEATURES.make_config(originals.EXTRACT_FEATURES.read_given(flags))
    given = flags.do_lower_case or ("true" if flags.init_checkpoint else "")
    counts = run(
        Path(flags.model or flags.init_checkpoint),
        flags.input_file,
        Path(flags.output_file),
        config,
        vocab_file=vocab_file(Path(flags.vocab_file)) if flags.vocab_file else None,
        bert_config_file=Path(flags.bert_config_file) if flags.bert_config_file else None,
        do_lower_case=given.lower() == "true" if given else None,
    )
    print_figures("vectors", counts)
    print(f"written: {flags.output_file}")
    return 0


EXTRACT_FEATURES = Verb(
    "Text to vectors of its tokens",
    "bertline extract_features --input_file input.txt --output_file output.jsonl --model uncased_L-12_H-768_A-12.zip "
    "--layers=-1,-2",
    _flags,
    _extract_features,
)
