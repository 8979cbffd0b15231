"""What a model folder is, in facts for a person: format, size, heads, vocabulary, step; and the released sizes."""

from typing import Any

from bertline.model.config import SIZES, BertConfig, parameter_count
from bertline.model.formats.detect import list_model_files
from bertline.model.formats.loaded_model import LoadedModel
from bertline.tokenizer.wordpiece import parse_vocabulary

PUBLISHED_VOCABULARY = 30_522  # entries, of the released English uncased models
NAMES = {"2/128": "tiny", "4/256": "mini", "4/512": "small", "8/512": "medium", "12/768": "base", "24/1024": "large"}

# What the state of a model of sentence vectors says -> what it is called here.
SENTENCES = {"pooling": "pooling", "normalize": "vectors of length 1", "max_seq_length": "longest text, word pieces"}


def describe_model(loaded: LoadedModel) -> dict[str, Any]:
    """Name -> value, the most important first."""
    checkpoint, config = loaded.checkpoint, loaded.checkpoint.bert_config
    vocabulary = parse_vocabulary(checkpoint.vocabulary, str(loaded.path))
    labels = checkpoint.state.get("labels")
    return {
        "format": loaded.format,
        "size": f"{sum(file.stat().st_size for file in list_model_files(loaded.path)) / 1e6:,.1f} MB",
        "shape": f"{config.num_hidden_layers} layers of {config.hidden_size}, {config.num_attention_heads} heads, "
        f"feed-forward {config.intermediate_size}, {config.hidden_act}",
        "parameters": sum(array.size for array in checkpoint.weights.values()),
        "variables": len(checkpoint.weights),
        "heads": ", ".join(loaded.heads) or "none",
        **({"labels": ", ".join(map(str, labels))} if labels else {}),
        "Adam slots": "yes" if checkpoint.slots is not None else "no",
        **({"step": step} if (step := checkpoint.state["step"]) or loaded.format == "bertline" else {}),
        "longest input": f"{config.max_position_embeddings} word pieces",
        **{name: checkpoint.state[key] for key, name in SENTENCES.items() if key in checkpoint.state},
        "vocabulary": f"{len(vocabulary):,} entries, {int(vocabulary.continuations.sum()):,} of them ## pieces",
        "case": "uncased: lower-cased, accents stripped" if checkpoint.do_lower_case else "cased",
        **({"further settings": _format_settings(checkpoint.config_extras)} if checkpoint.config_extras else {}),
        **({"unused variables": ", ".join(loaded.unused)} if loaded.unused else {}),
        **{f"remark {number}": remark for number, remark in enumerate(loaded.remarks, start=1)},
    }


def list_released_models() -> list[dict[str, Any]]:
    """The 26 released models, with their parameters at the vocabulary size of the English uncased ones.

    24 small ones (Turc et al. 2019), the largest of which has the shape of Base, and Base and Large themselves.
    """
    small = {size: "Turc et al. 2019" for size in SIZES if "/" in size}
    rows = []
    for size, source in {**small, "base": "Devlin et al. 2018", "large": "Devlin et al. 2018"}.items():
        config = BertConfig(vocab_size=PUBLISHED_VOCABULARY, **SIZES[size])
        shape = f"{config.num_hidden_layers}/{config.hidden_size}"
        rows.append(
            {
                "model": shape,
                "name": NAMES.get(shape, ""),
                "released by": source,
                "heads": config.num_attention_heads,
                "feed-forward": config.intermediate_size,
                "encoder and pooler": parameter_count(config, heads=False),
                "with both heads": parameter_count(config),
            }
        )
    return rows


def list_variables(loaded: LoadedModel) -> list[dict[str, str]]:
    """Every variable with its shape, by name."""
    weights = loaded.checkpoint.weights
    return [{"variable": name, "shape": " x ".join(map(str, weights[name].shape)) or "1"} for name in sorted(weights)]


def _format_settings(extras: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(extras.items()))
