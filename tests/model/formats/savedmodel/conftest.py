"""SavedModels as TensorFlow Model Garden makes them, for the tests that read them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GARDEN = {
    r"^bert/embeddings/word_embeddings$": "word_embeddings/embeddings",
    r"^bert/embeddings/position_embeddings$": "position_embedding/embeddings",
    r"^bert/embeddings/token_type_embeddings$": "type_embeddings/embeddings",
    r"^bert/embeddings/LayerNorm/": "embeddings/layer_norm/",
    r"^bert/encoder/layer_": "transformer/layer_",
    r"/attention/self/": "/self_attention/",
    r"/attention/output/dense/": "/self_attention/attention_output/",
    r"/attention/output/LayerNorm/": "/self_attention_layer_norm/",
    r"/intermediate/dense/": "/intermediate/",
    r"/output/dense/": "/output/",
    r"/output/LayerNorm/": "/output_layer_norm/",
    r"^bert/pooler/dense/": "pooler_transform/",
    r"^cls/predictions/output_bias$": "cls/predictions/output_bias/bias",
}


@pytest.fixture(scope="session")
def garden_name() -> Callable[[str], str]:
    """Model Garden's name of one of our variables, as its layers and networks call them."""

    def name_of(name: str) -> str:
        for pattern, theirs in GARDEN.items():
            name = re.sub(pattern, theirs, name)
        return name

    return name_of


@pytest.fixture(scope="session")
def save_garden() -> Callable[..., Path]:
    """Saves arrays by name with a vocabulary, as TF Hub's modules have them, and any further attributes."""

    def save(folder: Path, vocabulary: bytes, arrays: dict[str, np.ndarray], **attributes: Any) -> Path:
        import tensorflow as tf

        root: Any = tf.Module()
        root.all = [tf.Variable(array, name=name) for name, array in arrays.items()]
        for name, value in attributes.items():
            setattr(root, name, value)
        file = folder.with_suffix(".vocabulary") / "vocab.txt"
        file.parent.mkdir()
        file.write_bytes(vocabulary)
        root.vocab_file = tf.saved_model.Asset(str(file))
        tf.saved_model.save(root, str(folder))
        return folder

    return save
