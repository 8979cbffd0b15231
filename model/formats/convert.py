"""A model of any format -> another format, proved by running both on the same text."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bertline.model.features.pooling import POOLINGS
from bertline.model.formats.compare import (
    Difference,
    compare_outputs,
    compute_outputs,
    count_tokenizer_differences,
    run_savedmodel,
    sample_batch,
)
from bertline.model.formats.detect import read_model
from bertline.model.formats.export import BOOLEANS, TARGETS, ExportConfig, write_export
from bertline.model.formats.loaded_model import LoadedModel, initialize_heads, parse_heads, require_known_heads
from bertline.model.formats.vocabulary_change import change_vocabulary
from bertline.model.training.backends.choice import use_backend
from bertline.model.training.checkpoint import Checkpoint, write_checkpoint
from bertline.progress import say
from bertline.settings import one_of, require_choices
from bertline.tokenizer.wordpiece import load_vocabulary, parse_vocabulary

OWN_FORMAT = "bertline"
FORMATS = (OWN_FORMAT, *TARGETS)
KEEP_SLOTS = (OWN_FORMAT, "tf1")  # formats that can hold Adam's slots


@dataclass(frozen=True)
class ConvertConfig:
    """What to make of a model."""

    to: str = one_of(OWN_FORMAT, FORMATS)  # the format that is written
    with_slots: bool = False  # whether to keep Adam's slots, with which training can go on (bertline, tf1)
    do_lower_case: str = one_of("", BOOLEANS)  # whether the vocabulary is uncased, in place of what is known of it
    bound: float = 1e-5  # the largest difference of any output that is accepted; times its largest value above 1

    # heads that the model lacks:
    initialize: str = ""  # heads to make afresh, comma-separated: pooler, masked_lm, next_sentence
    seed: int = 12345  # seed of the heads made afresh

    # sentence vectors (sentence-transformers):
    pooling: str = one_of("", ("", *POOLINGS))  # how a text's tokens become its vector; none: the model's own
    # way, or mean
    normalize: str = one_of("", BOOLEANS)  # whether a text's vector has length 1; none: as the model says, or true

    def __post_init__(self) -> None:
        """Refuse unknown formats and impossible bounds."""
        require_choices(self)
        if (self.pooling or self.normalize) and self.to != "sentence-transformers":
            raise ValueError(
                f"pooling and normalize are of sentence-transformers alone, not of {self.to}; leave them out"
            )
        if self.with_slots and self.to not in KEEP_SLOTS:
            raise ValueError(f"with_slots is set, but {self.to} cannot hold Adam's slots; leave it out")
        if not self.bound > 0:
            raise ValueError(f"bound is {self.bound}; it must be above 0")
        require_known_heads(self.initialize)

    @property
    def kind(self) -> str:
        """What is made: a model in our own format can be trained, tuned and scored like a checkpoint."""
        return "checkpoint_converted" if self.to == OWN_FORMAT else f"export_{self.to}"


def run(
    source: Path,
    out: Path,
    config: ConvertConfig,
    *,
    vocab_file: Path | None = None,
    bert_config_file: Path | None = None,
    new_vocab: Path | None = None,
    tell: Callable[[LoadedModel], None] = lambda loaded: None,
) -> dict[str, int | float]:
    """Write the model at `source` into the empty folder `out`, and compare the two.

    `vocab_file` and `bert_config_file` are those of the source, where they do not lie beside it; `new_vocab` is
    a vocab.txt that the written model is to have instead. `tell` is called with what was read. The counts hold
    the largest difference of each output. Raises ValueError for a difference above the bound, for
    what the format cannot hold, and for what `read_model` refuses.
    """
    case = None if not config.do_lower_case else config.do_lower_case == "true"
    loaded = read_model(source, vocab_file=vocab_file, bert_config_file=bert_config_file, do_lower_case=case)
    tell(loaded)
    use_backend("")  # the two are compared by Keras
    checkpoint, changed = _change(loaded, config, new_vocab)
    return write_proved(out, checkpoint, config) | {f"pieces.{name}": count for name, count in changed.items()}


def write_proved(out: Path, checkpoint: Checkpoint, config: ConvertConfig) -> dict[str, int | float]:
    """Write the model into the empty folder `out`, and compare the two; counts and errors are those of `run`."""
    left_out = _write(out, checkpoint, config)
    found = _prove(out, checkpoint, config)
    parameters = sum(array.size for array in checkpoint.weights.values())
    named = {f"difference.{each.side}.{each.what}": each.largest for each in found}
    return {"parameters": parameters, **left_out, **named}


def _change(loaded: LoadedModel, config: ConvertConfig, new_vocab: Path | None) -> tuple[Checkpoint, dict[str, int]]:
    checkpoint = initialize_heads(loaded.checkpoint, parse_heads(config.initialize), config.seed, loaded.path)
    if config.with_slots and checkpoint.slots is None:
        raise ValueError(f"{loaded.path}: has no Adam slots to keep; leave with_slots out")
    if new_vocab is None:
        return checkpoint, {}
    old = parse_vocabulary(checkpoint.vocabulary, str(loaded.path))
    return change_vocabulary(checkpoint, new_vocab.read_bytes(), old, load_vocabulary(new_vocab))


def _write(folder: Path, checkpoint: Checkpoint, config: ConvertConfig) -> dict[str, int | float]:
    """Write the model, and say what was left out; returns the counts of that."""
    kept = checkpoint if config.with_slots else replace(checkpoint, slots=None)
    if config.to == "tf1" and checkpoint.bert_config.hidden_act == "gelu_erf":
        say(
            "google-research/bert has the tanh form of GELU alone and computes that; bertline reads back the exact form"
        )
    counts: Mapping[str, int | float] = {}
    if config.to == OWN_FORMAT:
        write_checkpoint(folder, kept)
    else:
        options = ExportConfig(to=config.to, pooling=config.pooling, normalize=config.normalize)
        counts = write_export(folder, kept, options)
    slots = {"slots_left_out": len(checkpoint.slots)} if checkpoint.slots and not config.with_slots else {}
    return {name: count for name, count in counts.items() if name.endswith("left_out")} | slots


def _prove(folder: Path, checkpoint: Checkpoint, config: ConvertConfig) -> list[Difference]:
    """The differences between the model and what was written; ValueError for one above the bound."""
    batch = sample_batch(checkpoint)
    ours, used = compute_outputs(checkpoint, batch), batch["input_mask"]
    found: list[Difference] = []
    if config.to != "onnx":
        found += compare_outputs(ours, compute_outputs(read_model(folder).checkpoint, batch), "read_back", used)
    if config.to == "savedmodel":
        found += compare_outputs(ours, run_savedmodel(folder, batch), "savedmodel", used)
    if config.to == "onnx":
        from bertline.model.formats.onnx import run_onnx

        found += compare_outputs(ours, run_onnx(folder, batch), "onnx", used)
    if (folder / "tokenizer.json").is_file():
        wrong = count_tokenizer_differences(folder, checkpoint)
        found.append(Difference("texts", "tokenizer_json", float(wrong)))
    for each in found:
        if not each.largest <= config.bound * each.scale:  # NaN is refused, too
            raise ValueError(
                f"{each.what} by {each.side} differ by {each.largest:.3g}, more than the bound of {config.bound:g}; "
                "nothing was written"
            )
    return found
