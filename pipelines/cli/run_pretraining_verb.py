"""The command line's verb run_pretraining, with the flags of google-research/bert's run_pretraining.py."""

import argparse
from pathlib import Path

from bertline.components.declaration import vocab_file
from bertline.components.pretraining_data.patterns import matching_files
from bertline.components.store.artifacts import make_writable
from bertline.pipelines.cli.flags import add_config_flags, config_from_flags
from bertline.pipelines.cli.tables import print_figures
from bertline.pipelines.cli.verbs import Verb

Flags = argparse.Namespace
Parser = argparse.ArgumentParser


def _flags(parser: Parser) -> None:
    from bertline.model.pretraining.google_config import RunPretrainingConfig

    parser.add_argument("--bert_config_file", required=True, metavar="FILE", help="bert_config.json: the model's shape")
    parser.add_argument("--input_file", required=True, metavar="GLOB", help="records of create_pretraining_data: files "
                        "and globs, comma-separated")  # fmt: skip
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="folder of the checkpoints model.ckpt-N; "
                        "training goes on from the newest that is there")  # fmt: skip
    parser.add_argument("--init_checkpoint", metavar="PATH", help="a TF1 checkpoint, such as bert_model.ckpt, for the "
                        "first weights; heads that it lacks are made afresh")  # fmt: skip
    parser.add_argument("--vocab_file", metavar="PATH", help="vocab.txt to lay beside the checkpoints (default: the "
                        "one beside bert_config_file, if there is one); training needs none")  # fmt: skip
    parser.add_argument("--config", metavar="FILE", help="JSON or TOML file of settings; flags win over it")
    add_config_flags(parser, RunPretrainingConfig)


def _run_pretraining(flags: Flags) -> int:
    from bertline.model.pretraining.google_config import RunPretrainingConfig, choose_backend

    config = config_from_flags(flags, RunPretrainingConfig)
    choose_backend(config)  # before the next line, which loads Keras
    from bertline.model.pretraining.google import EVAL_FILE, Files, run

    output_dir = Path(flags.output_dir)
    files = Files(
        matching_files(flags.input_file),
        Path(flags.bert_config_file),
        output_dir,
        Path(flags.init_checkpoint) if flags.init_checkpoint else None,
        vocab_file(Path(flags.vocab_file)) if flags.vocab_file else None,
    )
    make_writable(output_dir if output_dir.exists() else output_dir.parent)
    print_figures("pretraining", run(files, config))
    if config.do_eval:
        print(f"***** Eval results *****\n{(output_dir / EVAL_FILE).read_text(encoding='utf-8')}", end="")
    print(f"written: {output_dir}")
    return 0


RUN_PRETRAINING = Verb(
    "google-research/bert's run_pretraining.py, with its flags: records -> TF1 checkpoints and scores",
    "bertline run_pretraining --input_file tf_examples.tfrecord --output_dir pretraining_output --do_train=True "
    "--do_eval=True --bert_config_file bert_config.json --num_train_steps=20 --num_warmup_steps=10",
    _flags,
    _run_pretraining,
)
