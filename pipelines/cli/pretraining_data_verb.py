"""The command line's verb create_pretraining_data, with the flags of google-research/bert's program."""

from pathlib import Path

from bertline.components.declaration import vocab_file
from bertline.pipelines.cli import originals
from bertline.pipelines.cli.verbs import INPUT_AND_OUTPUT, Flags, Parser, Verb


def _flags(parser: Parser) -> None:
    group = parser.add_argument_group(INPUT_AND_OUTPUT)
    group.add_argument("--input_file", required=True, metavar="GLOB", help="The text, a sentence a line and a blank "
                       "line between documents: files and globs, comma-separated.")  # fmt: skip
    group.add_argument("--output_file", required=True, metavar="FILE", help="The TFRecord files to write, "
                       "comma-separated.")  # fmt: skip
    group.add_argument("--vocab_file", required=True, metavar="PATH", help="A vocab.txt, or a vocabulary artifact.")
    originals.CREATE_PRETRAINING_DATA.add_flags(parser)


def _create_pretraining_data(flags: Flags) -> int:
    from bertline.components.pretraining_data.google import run
    from bertline.pipelines.cli.tables import print_figures

    config = originals.CREATE_PRETRAINING_DATA.make_config(originals.CREATE_PRETRAINING_DATA.read_given(flags))
    counts = run(flags.input_file, flags.output_file, vocab_file(Path(flags.vocab_file)), config)
    print_figures("records", counts)
    print(f"written: {flags.output_file}")
    return 0


CREATE_PRETRAINING_DATA = Verb(
    "Text to records",
    "bertline create_pretraining_data --input_file 'text/*.txt' --output_file data.tfrecord --vocab_file vocab.txt "
    "--do_whole_word_mask=True",
    _flags,
    _create_pretraining_data,
)
