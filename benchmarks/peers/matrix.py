"""A side of training.py: a square product of matrices, through TensorFlow, to measure what the processor can do."""

import json
import sys
from typing import Any

import tensorflow as tf
from turns import take_turns


def main(job: dict[str, Any]) -> None:
    """Take turns; a step is one product of `size`-cubed in `precision`."""
    shape = job["size"], job["size"]
    left, right = (tf.cast(tf.random.normal(shape, seed=seed), job["precision"]) for seed in (1, 2))
    take_turns(lambda step: float(tf.matmul(left, right)[0, 0]))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
