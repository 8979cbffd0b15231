"""A checkpoint -> the folder that another library loads: Hugging Face transformers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertline.model.checkpoints.state import Checkpoint, read_checkpoint, write_arrays
from bertline.model.config import BertConfig
from bertline.model.formats.names import huggingface_name, transposed
from bertline.tokenizer.wordpiece import MAX_WORD_CHARACTERS, Vocabulary, load_vocabulary

TARGETS = ("huggingface",)
HUGGINGFACE_ACTIVATIONS = {
    "gelu": "gelu_pytorch_tanh",
    "gelu_erf": "gelu",
    "relu": "relu",
    "tanh": "tanh",
    "linear": "linear",
}
SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


@dataclass(frozen=True)
class ExportConfig:
    """Which library to export to."""

    to: str = "huggingface"  # the one target so far

    def __post_init__(self) -> None:
        """Refuse unknown targets."""
        if self.to not in TARGETS:
            raise ValueError(f'to is "{self.to}"; known: {", ".join(TARGETS)}')


def run(checkpoint: Path, out: Path, config: ExportConfig) -> dict[str, int | float]:
    """Write the checkpoint, pretrained or a fine-tuned classifier, as a Hugging Face directory into `out`."""
    model = read_checkpoint(checkpoint)
    vocabulary = load_vocabulary(checkpoint / "vocab.txt")
    tensors = {huggingface_name(name): transposed(name, array) for name, array in model.weights.items()}
    write_arrays(out / "model.safetensors", tensors, metadata={"format": "pt"})
    _write_json(out / "config.json", huggingface_config(model, vocabulary))
    (out / "vocab.txt").write_bytes(model.vocabulary)
    _write_json(out / "tokenizer_config.json", _tokenizer_config(model))
    (out / "tokenizer.json").write_text(_fast_tokenizer(vocabulary, model.do_lower_case), encoding="utf-8")
    return {"tensors": len(tensors), "parameters": sum(tensor.size for tensor in tensors.values())}


def huggingface_config(model: Checkpoint, vocabulary: Vocabulary) -> dict[str, Any]:
    """The content of config.json."""
    shape: BertConfig = model.bert_config
    config = json.loads(shape.to_json())
    config |= {
        "architectures": ["BertForPreTraining"],
        "model_type": "bert",
        "hidden_act": HUGGINGFACE_ACTIVATIONS[shape.hidden_act],
        "layer_norm_eps": 1e-12,
        "pad_token_id": vocabulary.pad_id,
        "tie_word_embeddings": True,
    }
    labels: Sequence[str] | None = model.state.get("labels")
    if labels is not None:
        config["architectures"] = ["BertForSequenceClassification"]
        config["id2label"] = {str(number): label for number, label in enumerate(labels)}
        config["label2id"] = {label: number for number, label in enumerate(labels)}
    return config


def _tokenizer_config(model: Checkpoint) -> dict[str, Any]:
    return {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": model.do_lower_case,
        "model_max_length": model.bert_config.max_position_embeddings,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        **SPECIAL_TOKENS,
    }


def _fast_tokenizer(vocabulary: Vocabulary, do_lower_case: bool) -> str:
    """The content of tokenizer.json."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(
        models.WordPiece(
            dict(vocabulary.ids),
            unk_token="[UNK]",
            max_input_chars_per_word=MAX_WORD_CHARACTERS,  # not its 100
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=do_lower_case
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary.cls_id), ("[SEP]", vocabulary.sep_id)],
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS.values()))
    return str(tokenizer.to_str(pretty=True))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
