"""Our model -> the folder that Hugging Face transformers loads."""

from pathlib import Path

from bertline.model.formats.files import write_json
from bertline.model.formats.huggingface.config import written_config
from bertline.model.formats.huggingface.names import huggingface_name, transposed
from bertline.model.formats.huggingface.tokenizer import write_tokenizer
from bertline.model.formats.parts import parts_of
from bertline.model.training.checkpoint import Checkpoint, write_arrays
from bertline.tokenizer.wordpiece import parse_vocabulary


def write_huggingface(folder: Path, checkpoint: Checkpoint) -> dict[str, int | float]:
    """Write weights, configuration and tokenizer into an existing folder; returns counts.

    The weights are those of the checkpoint, bit for bit; the masked-word decoder that shares them is left to
    transformers, which makes it. Adam's slots have no place in this format: they are left out, and counted.
    """
    parts = parts_of(checkpoint.weights, checkpoint.bert_config, folder)
    vocabulary = parse_vocabulary(checkpoint.vocabulary, "vocab.txt")
    tensors = {huggingface_name(name): transposed(name, array) for name, array in checkpoint.weights.items()}
    write_arrays(folder / "model.safetensors", tensors, metadata={"format": "pt"})
    write_json(folder / "config.json", written_config(checkpoint, parts, vocabulary.pad_id))
    write_tokenizer(folder, checkpoint, vocabulary)
    counts: dict[str, int | float] = {
        "tensors": len(tensors),
        "parameters": sum(tensor.size for tensor in tensors.values()),
    }
    return counts | ({"slots_left_out": len(checkpoint.slots)} if checkpoint.slots else {})
