"""The loss of google-research/bert's pretraining graph and its gradient for every weight.

    PYTHON_WITH_TENSORFLOW_1.15 tests/data/make_original_gradients.py PATH_OF_google-research/bert

runs the unmodified modeling.py and run_pretraining.py without dropout on random weights and examples, and writes
original_gradients.npz beside this file: config (JSON), batch|NAME, weight|NAME, gradient|NAME, mlm_loss and nsp_loss.
"""

import json
import sys
from pathlib import Path

import numpy as np

CONFIG = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 10,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.02,
}
EXAMPLES, LENGTH, PREDICTIONS = 6, 10, 3
WIDTH = 0.3  # of the weights, so that every one of them matters


def main(original):
    """Compute and write."""
    sys.path.insert(0, original)
    import modeling
    import run_pretraining
    import tensorflow as tf

    random = np.random.RandomState(5)
    batch = random_batch(random)
    fed = {name: tf.constant(values) for name, values in batch.items()}
    config = modeling.BertConfig.from_dict(CONFIG)
    model = modeling.BertModel(config, True, fed["input_ids"], fed["input_mask"], fed["segment_ids"])
    predictions = (fed["masked_lm_positions"], fed["masked_lm_ids"], fed["masked_lm_weights"])
    words = model.get_sequence_output(), model.get_embedding_table()
    mlm_loss = run_pretraining.get_masked_lm_output(config, *words, *predictions)[0]
    pooled, labels = model.get_pooled_output(), fed["next_sentence_labels"]
    nsp_loss = run_pretraining.get_next_sentence_output(config, pooled, labels)[0]
    variables = tf.trainable_variables()
    gradients = [tf.convert_to_tensor(each) for each in tf.gradients(mlm_loss + nsp_loss, variables)]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for variable in variables:
            variable.load(random_weight(random, variable.op.name, variable.shape.as_list()), session)
        weights, gradients, mlm_loss, nsp_loss = session.run([variables, gradients, mlm_loss, nsp_loss])
    names = [variable.op.name for variable in variables]
    arrays = {"config": np.array(json.dumps(CONFIG)), "mlm_loss": mlm_loss, "nsp_loss": nsp_loss}
    arrays.update(("batch|" + name, values) for name, values in batch.items())
    arrays.update(("weight|" + name, values) for name, values in zip(names, weights))
    arrays.update(("gradient|" + name, values) for name, values in zip(names, gradients))
    np.savez_compressed(str(Path(__file__).parent / "original_gradients.npz"), **arrays)


def random_weight(random, name, shape):
    """Normal around 0, around 1 for what multiplies normalised values."""
    return (WIDTH * random.standard_normal(shape) + name.endswith("gamma")).astype(np.float32)


def random_batch(random):
    """Examples of different lengths; some predictions count nothing."""
    lengths = random.randint(LENGTH // 2, LENGTH + 1, EXAMPLES)
    mask = (np.arange(LENGTH) < lengths[:, None]).astype(np.int32)
    weights = np.ones((EXAMPLES, PREDICTIONS), np.float32)
    weights[::2, -1] = 0.0
    return {
        "input_ids": random.randint(1, CONFIG["vocab_size"], mask.shape).astype(np.int32) * mask,
        "input_mask": mask,
        "segment_ids": (np.arange(LENGTH) >= LENGTH // 3).astype(np.int32) * mask,
        "masked_lm_positions": random.randint(1, LENGTH // 2, weights.shape).astype(np.int32),
        "masked_lm_ids": random.randint(1, CONFIG["vocab_size"], weights.shape).astype(np.int32),
        "masked_lm_weights": weights,
        "next_sentence_labels": random.randint(0, 2, EXAMPLES).astype(np.int32),
    }


if __name__ == "__main__":
    main(sys.argv[1])
