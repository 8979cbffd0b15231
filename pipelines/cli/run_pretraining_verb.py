"""The command line's verb run_pretraining, with the flags of google-research/bert's run_pretraining.py."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertline.components.declaration import vocab_file
from bertline.components.pretraining_data.patterns import find_matching_files
from bertline.components.store.artifacts import make_writable
from bertline.pipelines.cli import originals
from bertline.pipelines.cli.verbs import INPUT_AND_OUTPUT, Flags, Parser, Verb

if TYPE_CHECKING:
    from bertline.model.pretraining.config import PretrainConfig
    from bertline.model.pretraining.google_config import RunPretrainingConfig


def _flags(parser: Parser) -> None:
    group = parser.add_argument_group(INPUT_AND_OUTPUT)
    group.add_argument("--bert_config_file", required=True, metavar="FILE", help="A bert_config.json, the model's "
                       "shape.")  # fmt: skip
    group.add_argument("--input_file", required=True, metavar="GLOB", help="The records of create_pretraining_data: "
                       "files and globs, comma-separated.")  # fmt: skip
    group.add_argument("--output_dir", required=True, metavar="DIR", help="The folder of the checkpoints model.ckpt-N; "
                       "training goes on from the newest that is there.")  # fmt: skip
    group.add_argument("--init_checkpoint", metavar="PATH", help="A TF1 checkpoint, such as bert_model.ckpt, for the "
                       "first weights; heads that it lacks are made afresh.")  # fmt: skip
    group.add_argument("--vocab_file", metavar="PATH", help="A vocab.txt to lay beside the checkpoints (default: the "
                       "one beside bert_config_file, if there is one); training needs none.")  # fmt: skip
    originals.RUN_PRETRAINING.add_flags(parser)


def make_configs(given: Mapping[str, Any]) -> tuple["RunPretrainingConfig", "PretrainConfig"]:
    """What the program's settings ask for, and with which settings of `pretrain`; ValueError for impossible ones."""
    from bertline.model.pretraining.google_config import READ_BY_EVALUATION, RunPretrainingConfig

    own = {field.name for field in dataclasses.fields(RunPretrainingConfig)}
    config = RunPretrainingConfig(**{name: value for name, value in given.items() if name in own})
    read = {name: value for name, value in given.items() if config.do_train or name in READ_BY_EVALUATION}
    return config, config.on_tpu(originals.RUN_PRETRAINING.make_config(read))


def _run_pretraining(flags: Flags) -> int:
    from bertline.model.pretraining.google_config import choose_backend

    config, settings = make_configs(originals.RUN_PRETRAINING.read_given(flags))
    choose_backend(config, settings)  # before the next line, which loads Keras
    from bertline.model.pretraining.google import EVAL_FILE, Files, run
    from bertline.pipelines.cli.tables import print_figures

    output_dir = Path(flags.output_dir)
    files = Files(
        find_matching_files(flags.input_file),
        Path(flags.bert_config_file),
        output_dir,
        Path(flags.init_checkpoint) if flags.init_checkpoint else None,
        vocab_file(Path(flags.vocab_file)) if flags.vocab_file else None,
    )
    make_writable(output_dir if output_dir.exists() else output_dir.parent)
    print_figures("pretraining", run(files, config, settings))
    if config.do_eval:
        print(f"***** Eval results *****\n{(output_dir / EVAL_FILE).read_text(encoding='utf-8')}", end="")
    print(f"written: {output_dir}")
    return 0


RUN_PRETRAINING = Verb(
    "Records to TF1 checkpoints and scores",
    "bertline run_pretraining --input_file tf_examples.tfrecord --output_dir pretraining_output --do_train=True "
    "--do_eval=True --bert_config_file bert_config.json --num_train_steps=20 --num_warmup_steps=10",
    _flags,
    _run_pretraining,
)
