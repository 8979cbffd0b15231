"""google-research/bert's create_pretraining_data.py: its flags and files, on the work of `prepare`.

Unlike there, unknown flags and empty input are refused, a file's end ends a document, and memory does not grow
with the corpus. Instances come shard by shard, in random order within each.
"""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bertline.components.pretraining_data.buckets import COPIED_AT_ONCE
from bertline.components.pretraining_data.config import PrepareConfig
from bertline.components.pretraining_data.files import list_plain_files
from bertline.components.pretraining_data.patterns import find_matching_files
from bertline.components.pretraining_data.prepare import write_shards
from bertline.components.pretraining_data.shards import shard_files
from bertline.components.pretraining_data.statistics import Counts, counts_of
from bertline.components.store.artifacts import Provenance, make_writable
from bertline.model.records.files import RecordFile
from bertline.model.records.masking import write_masking
from bertline.preemption import ended_by_signals, held
from bertline.tokenizer.wordpiece import load_vocabulary

CODE = ("bertline.components.pretraining_data.google",)


def run(input_file: str, output_file: str, vocab_file: Path, config: PrepareConfig) -> Counts:
    """Write the instances of the documents of the files that `input_file` names into those of `output_file`.

    Both are comma-separated, the inputs may be globs. The outputs appear when all is made; the same call after
    a kill goes on with the shards that were not finished. Raises FileNotFoundError when a pattern matches
    nothing, ValueError for input without text.
    """
    texts, outputs = find_matching_files(input_file), _parse_outputs(output_file)
    provenance = Provenance("records", "create_pretraining_data", {"text": texts, "vocab": [vocab_file]}, config, CODE)
    work = outputs[0].with_name(f".{outputs[0].name}.{provenance.fingerprint()}.work")
    with ended_by_signals(describe_kept=lambda: "finished shards are kept; the same command goes on with the others"):
        return _make(texts, input_file, vocab_file, outputs, work, config)


def _make(
    texts: Sequence[Path], input_file: str, vocab_file: Path, outputs: Sequence[Path], work: Path, config: PrepareConfig
) -> Counts:
    try:
        totals, shards = write_shards(list_plain_files(texts), input_file, vocab_file, work, config)
        with held(str(outputs[0])):
            made = [work / file for number in range(shards) for file in shard_files(number, shards, config)]
            if len(made) < len(outputs):
                made = _deal_out(made, len(outputs), work)
            for number, output in enumerate(outputs):
                _join(made[number :: len(outputs)], output)
            vocabulary = load_vocabulary(vocab_file)
            if config.masking == "dynamic":
                for folder in {output.parent for output in outputs}:
                    write_masking(folder, config.mask_config(), config.seed, vocabulary)
            shutil.rmtree(work)
    except (ValueError, OSError):
        shutil.rmtree(work, ignore_errors=True)
        raise
    return counts_of(totals, shards, vocabulary.unk_id, config)


def _parse_outputs(files: str) -> list[Path]:
    outputs = [Path(each.strip()) for each in files.split(",") if each.strip()]
    if not outputs or len(set(outputs)) < len(outputs):
        raise ValueError(f'output_file is "{files}"; give one file, or several different ones, comma-separated')
    for output in outputs:
        make_writable(output.parent)
        if output.is_dir():
            raise IsADirectoryError(f"{output}: is a folder; give the file to write: {output / 'data.tfrecord'}")
    return outputs


def _deal_out(shards: list[Path], count: int, work: Path) -> list[Path]:
    """The records of few files in turn to `count` files."""
    dealt = [work / f"dealt-{number:05}" for number in range(count)]
    with ExitStack() as stack:
        files = [stack.enter_context(file.open("wb")) for file in dealt]
        for number, record in enumerate(framed for shard in shards for framed in RecordFile(shard).all_frames()):
            files[number % count].write(record)
    return dealt


def _join(shards: list[Path], output: Path) -> None:
    """Put TFRecord files one behind the other; the first is lengthened, so that only the others are copied."""
    with shards[0].open("ab") as whole:
        for shard in shards[1:]:
            with shard.open("rb") as more:
                shutil.copyfileobj(more, whole, COPIED_AT_ONCE)
            shard.unlink()
    shards[0].replace(output)
