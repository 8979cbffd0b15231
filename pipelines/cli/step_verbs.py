"""The command line's verbs that make one artifact each: flags in, a step's artifact out, its counts shown."""

import argparse
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertline.components import step_table as published
from bertline.components.store.artifacts import Artifact
from bertline.pipelines.cli.flags import add_config_flags, config_from_flags
from bertline.pipelines.cli.tables import counts_table

Flags = argparse.Namespace


@dataclass(frozen=True)
class StepVerb:
    """A verb that runs one step; the config class is loaded only when the verb is used."""

    summary: str
    example: str
    config: Callable[[], type[Any]]
    make: Callable[[Flags, Any], Artifact]
    inputs: Mapping[str, str]  # required flags and their help
    options: Mapping[str, str] = field(default_factory=dict)  # further flags, None when not given

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """The inputs, the output and a flag per setting."""
        for name, text in self.inputs.items():
            parser.add_argument(f"--{name}", required=True, metavar="PATH", help=text)
        for name, text in self.options.items():
            parser.add_argument(f"--{name}", metavar="PATH", help=text)
        parser.add_argument("--out", required=True, metavar="PATH", help="what to write; must not exist yet")
        parser.add_argument("--config", metavar="FILE", help="JSON or TOML file of settings; flags win over it")
        add_config_flags(parser, self.config())

    def run(self, flags: Flags) -> int:
        """Make the artifact and print its counts."""
        made = self.make(flags, config_from_flags(flags, self.config()))
        counts_table(made)
        return 0


def _ingest_config() -> type[Any]:
    from bertline.components.corpus.ingest.sources import IngestConfig

    return IngestConfig


def _ingest(flags: Flags, config: Any) -> Artifact:
    from bertline.components.corpus.ingest.sources import Sources

    names = ("dump", "books", "text", "wikiextractor", "jsonl")
    return published.ingest(Path(flags.out), config, Sources(**{name: getattr(flags, name) or "" for name in names}))


def _split_config() -> type[Any]:
    from bertline.components.corpus.split import SplitConfig

    return SplitConfig


def _split(flags: Flags, config: Any) -> Artifact:
    return published.split(Path(flags.out), config, Path(flags.documents))


def _vocabulary_config() -> type[Any]:
    from bertline.components.corpus.vocabulary import VocabularyConfig

    return VocabularyConfig


def _vocabulary(flags: Flags, config: Any) -> Artifact:
    """The artifact is a folder; the file that the user named is a copy of its vocab.txt."""
    out = Path(flags.out)
    if out.is_dir():
        raise IsADirectoryError(f"{out}: is a folder; give the file to write, for example {out / 'vocab.txt'}")
    made = published.vocabulary(out.with_name(f"{out.name}.artifact"), config, Path(flags.sentences))
    draft = out.with_name(f".{out.name}.tmp")
    shutil.copyfile(made.path / "vocab.txt", draft)
    draft.replace(out)
    return made


def _prepare_config() -> type[Any]:
    from bertline.components.pretraining_data.config import PrepareConfig

    return PrepareConfig


def _prepare(flags: Flags, config: Any) -> Artifact:
    return published.prepare(Path(flags.out), config, Path(flags.sentences), Path(flags.vocab))


def _pretrain_config() -> type[Any]:
    from bertline.model.pretraining.config import PretrainConfig

    return PretrainConfig


def _pretrain(flags: Flags, config: Any) -> Artifact:
    return published.pretrain(
        Path(flags.out),
        config,
        Path(flags.records),
        vocab=Path(flags.vocab) if flags.vocab else None,
        checkpoint=Path(flags.checkpoint) if flags.checkpoint else None,
        initial=Path(flags.initial) if flags.initial else None,
        heldout=Path(flags.heldout) if flags.heldout else None,
    )


def _evaluate_config() -> type[Any]:
    from bertline.model.pretraining.evaluate import EvaluateConfig

    return EvaluateConfig


def _evaluate(flags: Flags, config: Any) -> Artifact:
    return published.evaluate(Path(flags.out), config, Path(flags.checkpoint), Path(flags.records))


def _finetune_config() -> type[Any]:
    from bertline.model.finetuning.run import FinetuneConfig

    return FinetuneConfig


def _finetune(flags: Flags, config: Any) -> Artifact:
    files = Path(flags.train), Path(flags.dev)
    return published.finetune(Path(flags.out), config, Path(flags.checkpoint), flags.task, *files)


def _export_config() -> type[Any]:
    from bertline.model.formats.export import ExportConfig

    return ExportConfig


def _export(flags: Flags, config: Any) -> Artifact:
    return published.export(Path(flags.out), config, Path(flags.checkpoint))


SENTENCES = "sentences, as `bertline split` writes them"
CHECKPOINT = "a checkpoint, or the best weights inside one (checkpoint_128/best)"

STEP_VERBS = {
    "ingest": StepVerb(
        "Wikipedia dumps, books and other text -> documents",
        "bertline ingest --dump enwiki-pages-articles.xml.bz2 --books shelf/ --out documents",
        _ingest_config,
        _ingest,
        {},
        {
            "dump": "Wikipedia pages-articles dumps (.xml, .xml.bz2, .xml.gz): files or globs, comma-separated",
            "books": "plain-text books: a folder, files or globs",
            "text": "plain-text files, a document each: globs",
            "wikiextractor": "a folder of WikiExtractor output (<doc> or --json)",
            "jsonl": 'JSON lines with a "text" each: globs',
        },
    ),
    "split": StepVerb(
        "documents -> sentences, one a line, a blank line after each document",
        "bertline split --documents documents --out sentences",
        _split_config,
        _split,
        {"documents": "documents, as `bertline ingest` writes them"},
    ),
    "vocab": StepVerb(
        "sentences -> a learned vocab.txt",
        "bertline vocab --sentences sentences --size 30000 --out vocab.txt",
        _vocabulary_config,
        _vocabulary,
        {"sentences": SENTENCES},
    ),
    "prepare": StepVerb(
        "sentences -> records of masked-LM / next-sentence instances",
        "bertline prepare --sentences sentences --vocab vocab.txt --max_seq_length 128 --out records_128",
        _prepare_config,
        _prepare,
        {"sentences": SENTENCES, "vocab": "vocab.txt, or a vocabulary artifact"},
    ),
    "pretrain": StepVerb(
        "records -> the checkpoint at the end of one stage of the schedule",
        "bertline pretrain --records records_128 --vocab vocab.txt --model tiny --num_train_steps 1000 "
        "--num_warmup_steps 100 --stop_at_step 900 --out checkpoint_128\n"
        "  bertline pretrain --records records_512 --checkpoint checkpoint_128 --max_seq_length 512 "
        "--num_train_steps 1000 --num_warmup_steps 100 --out checkpoint_512\n"
        "SIGTERM saves the step and ends with exit code 75; the same command goes on, as after a crash.",
        _pretrain_config,
        _pretrain,
        {"records": "records, as `bertline prepare` writes them"},
        {
            "vocab": "vocab.txt of the records; not needed with --checkpoint or --initial",
            "checkpoint": "the stage before, whose schedule goes on",
            "initial": "a released model of any format, whose weights start a schedule of their own",
            "heldout": "records never trained on (`bertline prepare --part heldout`), scored at the end and every "
            "eval_every_steps; the weights with the lowest masked-LM loss are kept, in <out>/best if not the last",
        },
    ),
    "evaluate": StepVerb(
        "a checkpoint's masked-LM and next-sentence scores on held-out records",
        "bertline evaluate --checkpoint checkpoint_512 --records heldout_128 --out scores",
        _evaluate_config,
        _evaluate,
        {"checkpoint": CHECKPOINT, "records": "records never trained on (`bertline prepare --part heldout`)"},
    ),
    "finetune": StepVerb(
        "a checkpoint -> a classifier of sentences or pairs, scored on the task's development set",
        "bertline finetune --checkpoint checkpoint_512 --task mrpc --train MRPC/train.tsv --dev MRPC/dev.tsv "
        "--out finetuned",
        _finetune_config,
        _finetune,
        {
            "checkpoint": f"{CHECKPOINT}, pretrained",
            "task": "mrpc (sentence pairs) or sst2 (single sentences)",
            "train": "the task's training set, .tsv in its GLUE columns",
            "dev": "the task's development set",
        },
    ),
    "export": StepVerb(
        "a checkpoint -> a Hugging Face directory",
        "bertline export --checkpoint checkpoint_512 --out exported",
        _export_config,
        _export,
        {"checkpoint": CHECKPOINT},
    ),
}
