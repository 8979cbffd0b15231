"""Lines of text -> the vectors that a model's layers give their tokens: google-research/bert's extract_features.py.

Lines of about equal length are computed together, so that little is padding; no layer above the highest wanted one
is computed. A window of lines is computed while the one before is written, in the order of the input.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from bertline.model.features.lines import PIECES, UNITS, Window, encode_windows
from bertline.model.features.pooling import average, pool_tokens
from bertline.model.features.vectors import LayerVectors, Vectors, number_layers
from bertline.model.features.writers import JSONL, WRITERS, FeatureWriter, open_writer
from bertline.model.formats.detect import read_model
from bertline.model.formats.tokenizer import tokenizer_of
from bertline.model.training.backends.choice import use_backend
from bertline.progress import Progress, say
from bertline.settings import PRECISIONS, one_of, require_at_least, require_choices, require_length
from bertline.tokenizer.wordpiece import CLS

STANDARD_INPUT = "-"
WINDOW_BYTES = 1 << 27  # of a window's vectors; two windows are in memory at a time
READ_AT_ONCE = 1 << 22  # bytes
MEAN = "[MEAN]"  # stands for the token where a line has one vector, the mean of all tokens'
WORD_VECTORS = ("mean", "first")
LINE_VECTORS = ("none", "mean", "cls")

Counts = dict[str, int]


@dataclass(frozen=True)
class FeaturesConfig:
    """The settings of extract_features.py with its defaults, and some more."""

    # what is computed:
    layers: str = "-1,-2,-3,-4"  # layers that are written: 0 is the first, -1 the last; to be given as --layers=-1,-2
    max_seq_length: int = 128  # tokens of a line, [CLS] and [SEP] among them; the rest is cut off
    align: str = one_of(PIECES, UNITS)  # what has vectors: word pieces, words between blanks, or words with punctuation
    # marks apart
    word_vectors: str = one_of("mean", WORD_VECTORS)  # how the vectors of a word's pieces become the word's
    pooling: str = one_of("none", LINE_VECTORS)  # whether a line has one vector: the mean of its tokens', or [CLS]'s
    format: str = one_of(JSONL, tuple(WRITERS))  # the output's format; jsonl is the original's

    # the machine:
    batch_size: int = 32  # lines that are computed together
    precision: str = one_of("float32", PRECISIONS)  # precision of the computation; mixed_bfloat16 is faster on
    # processors that have it

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require_at_least(self, 1, "batch_size")
        require_at_least(self, 3, "max_seq_length")
        require_choices(self)
        layers = self.layer_numbers()
        if self.format != JSONL and len(set(layers)) < len(layers):
            raise ValueError(f'layers is "{self.layers}"; in {self.format} each layer has one place, name it once')
        if self.pooling != "none" and self.align != PIECES:
            raise ValueError(f"pooling {self.pooling} gives one vector a line, align {self.align} one a word; take one")

    def layer_numbers(self) -> tuple[int, ...]:
        """The numbers as given; ValueError for anything else."""
        try:
            return tuple(map(int, self.layers.split(",")))
        except ValueError as error:
            raise ValueError(f'layers is "{self.layers}"; give whole numbers such as -1,-2,-3,-4') from error


def run(
    model: Path,
    input_file: str,
    output_file: Path,
    config: FeaturesConfig,
    *,
    vocab_file: Path | None = None,
    bert_config_file: Path | None = None,
    do_lower_case: bool | None = None,
) -> Counts:
    """Write the vectors of all lines of `input_file` ("-": standard input) into `output_file`; returns counts.

    The model is of any format; a vocabulary, a configuration or a case that is given takes the place of its own. The
    output appears when all is written. Raises FileNotFoundError for a missing input or output folder, ValueError for
    an empty input, a line that is not UTF-8, and a layer, length or vocabulary that does not fit the model.
    """
    _require_files(input_file, output_file)
    loaded = read_model(model, vocab_file=vocab_file, bert_config_file=bert_config_file, do_lower_case=do_lower_case)
    use_backend("")
    for remark in loaded.remarks:
        say(f"{loaded.path}: {remark}")
    layers = number_layers(config.layer_numbers(), loaded)
    tokenizer = tokenizer_of(loaded, vocab_file or model).wordpiece
    require_length(config.max_seq_length, loaded.checkpoint.bert_config.max_position_embeddings)
    hidden = loaded.checkpoint.bert_config.hidden_size
    most_tokens = max(1, WINDOW_BYTES // (len(layers) * hidden * np.dtype(np.float32).itemsize))
    with ExitStack() as stack:
        lines, total = stack.enter_context(_open_lines(input_file))
        progress = stack.enter_context(Progress("extract_features", total, "lines"))
        of_layers = LayerVectors(loaded, layers, batch_size=config.batch_size, precision=config.precision)
        del loaded  # the weights are in the compiled model now; here they would be in memory twice
        writer = stack.enter_context(open_writer(output_file, config.format, config.layer_numbers(), hidden))
        found = encode_windows(lines, tokenizer, config.max_seq_length, config.align, most_tokens)
        counts = _write_all(found, of_layers, writer, config, progress)
        if not counts["lines"]:
            raise ValueError(f"{input_file}: no line; give a text, or two with ||| between them, a line")
    return counts


def _require_files(input_file: str, output_file: Path) -> None:
    if input_file != STANDARD_INPUT and not Path(input_file).is_file():
        raise FileNotFoundError(f"{input_file}: no such file; give a file of one text a line, or - for standard input")
    if not output_file.parent.is_dir():
        raise FileNotFoundError(f"{output_file.parent}: no such folder; make it, or write {output_file.name} elsewhere")
    if output_file.is_dir():
        raise IsADirectoryError(
            f"{output_file}: is a folder; give the file to write, such as {output_file / 'out.jsonl'}"
        )
    if output_file.exists() and input_file != STANDARD_INPUT and output_file.samefile(input_file):
        raise ValueError(f"{output_file}: is the input, too; give another output_file")


@contextmanager
def _open_lines(input_file: str) -> Iterator[tuple[Iterator[str], int | None]]:
    """The lines, and how many there are; unknown for standard input."""
    if input_file == STANDARD_INPUT:
        yield _decode(sys.stdin.buffer, "standard input"), None
        return
    with Path(input_file).open("rb") as file:
        total, last = 0, b"\n"
        while block := file.read(READ_AT_ONCE):
            total, last = total + block.count(b"\n"), block[-1:]
        file.seek(0)
        yield _decode(file, input_file), total + (last != b"\n")


def _decode(file: BinaryIO, where: str) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}:{number}: not UTF-8 ({error.reason}); convert the file to UTF-8") from error


def _write_all(
    found: Iterable[Window], model: LayerVectors, writer: FeatureWriter, config: FeaturesConfig, progress: Progress
) -> Counts:
    """Compute each window while the one before is written; returns counts."""
    totals = dict.fromkeys(("lines", "cut lines", "tokens", "vectors", "computed positions"), 0)
    lines_by_power: Counter[int] = Counter()  # of two, that their tokens fit in
    with ThreadPoolExecutor(1) as pool:
        written: Future[None] | None = None
        for window in found:
            of_tokens, positions = model.compute(window, progress.advance)
            per_line, labels, vectors = _pool(window, of_tokens, config)
            if written is not None:
                written.result()
            written = pool.submit(writer.write, window.first_line, per_line, labels, vectors)
            amounts = len(window), window.is_cut.sum(), window.lengths.sum(), len(labels), positions
            totals = {name: total + int(amount) for (name, total), amount in zip(totals.items(), amounts)}
            lines_by_power.update(np.ceil(np.log2(window.lengths)).astype(int).tolist())
        if written is not None:
            written.result()
    by_power = {f"lines of up to {1 << power} tokens": lines for power, lines in sorted(lines_by_power.items())}
    return totals | by_power


def _pool(window: Window, vectors: Vectors, config: FeaturesConfig) -> tuple[NDArray[np.int64], list[str], Vectors]:
    """How many vectors each line has, their labels and the vectors."""
    begins = np.cumsum(window.lengths) - window.lengths
    if config.pooling != "none":
        label = CLS if config.pooling == "cls" else MEAN
        return np.ones(len(window), np.int64), [label] * len(window), pool_tokens(vectors, begins, config.pooling)
    if config.align == PIECES:
        return window.lengths, window.labels, vectors
    firsts = window.first_tokens
    of_words = vectors[firsts] if config.word_vectors == "first" else average(vectors, firsts)
    return window.unit_counts, window.labels, of_words
