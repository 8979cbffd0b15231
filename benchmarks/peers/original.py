"""A side of training.py: the graph of google-research/bert's run_pretraining.py on today's TensorFlow, unchanged.

Its modules are imported as they are; names of TensorFlow 1 that are gone since are put back, by the same formulas.
"""

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import tensorflow.compat.v1 as v1
from turns import random_batches, take_turns

LAYER_NORM_EPSILON = 1e-12  # of tf.contrib.layers.layer_norm


def main(job: dict[str, Any]) -> None:
    """Take turns with the job's shape; `original` is the checkout's path."""
    v1.disable_v2_behavior()
    v1.logging.set_verbosity(v1.logging.ERROR)
    sys.modules["tensorflow"] = tensorflow_1()
    sys.path.insert(0, job["original"])
    import modeling
    import run_pretraining

    config = modeling.BertConfig.from_dict(job["config"])
    model_fn = run_pretraining.model_fn_builder(config, None, 1e-4, 100_000, 100, False, False)
    batches = random_batches(job)
    features = {name: v1.placeholder(values.dtype, values.shape, name) for name, values in batches[0].items()}
    made = model_fn(features, None, "train", None)
    session = v1.Session()
    session.run(v1.global_variables_initializer())

    def step(number: int) -> float:
        batch = batches[number % len(batches)]
        fed = {features[name]: values for name, values in batch.items()}
        return float(session.run([made.loss, made.train_op], fed)[0])

    take_turns(step)


def tensorflow_1() -> ModuleType:
    """compat.v1 with what the graph needs of tf.contrib, tf.estimator and tf.layers."""
    module = ModuleType("tensorflow")
    gone = {
        "contrib": SimpleNamespace(
            layers=SimpleNamespace(layer_norm=layer_norm), tpu=SimpleNamespace(TPUEstimatorSpec=SimpleNamespace)
        ),
        "estimator": SimpleNamespace(ModeKeys=SimpleNamespace(TRAIN="train", EVAL="eval")),
        "layers": SimpleNamespace(dense=dense),
    }
    vars(module).update(gone, __getattr__=lambda name: getattr(v1, name))
    return module


def layer_norm(inputs: Any, begin_norm_axis: int, begin_params_axis: int, scope: str | None) -> Any:
    """As tf.contrib.layers.layer_norm for the last axis."""
    assert begin_norm_axis == begin_params_axis == -1
    with v1.variable_scope(scope, default_name="LayerNorm"):
        shape = [inputs.shape[-1]]
        beta = v1.get_variable("beta", shape, initializer=v1.zeros_initializer())
        gamma = v1.get_variable("gamma", shape, initializer=v1.ones_initializer())
        mean, variance = v1.nn.moments(inputs, [len(inputs.shape) - 1], keep_dims=True)
        return v1.nn.batch_normalization(inputs, mean, variance, beta, gamma, LAYER_NORM_EPSILON)


def dense(
    inputs: Any, units: int, activation: Any = None, name: str | None = None, kernel_initializer: Any = None
) -> Any:
    """As tf.layers.dense on a matrix."""
    assert len(inputs.shape) == 2
    with v1.variable_scope(name, default_name="dense"):
        kernel = v1.get_variable("kernel", [inputs.shape[-1], units], initializer=kernel_initializer)
        bias = v1.get_variable("bias", [units], initializer=v1.zeros_initializer())
        outputs = v1.nn.bias_add(v1.matmul(inputs, kernel), bias)
        return outputs if activation is None else activation(outputs)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
