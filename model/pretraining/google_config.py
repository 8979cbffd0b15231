"""What google-research/bert's run_pretraining.py is asked for beside the settings of `pretrain`."""

import dataclasses
from dataclasses import dataclass

from bertline.model.pretraining.config import PretrainConfig
from bertline.model.pretraining.evaluate import EvaluateConfig
from bertline.model.training.backends.choice import require_tpu_cores, use_backend
from bertline.progress import say
from bertline.settings import require_at_least

JAX = "jax"
# What evaluation reads of the settings of training; without do_train the others are not looked at, as in the original.
READ_BY_EVALUATION = ("max_seq_length", "eval_batch_size", "precision", "jit_compile", "backend", "seed")


@dataclass(frozen=True)
class RunPretrainingConfig:
    """The flags of run_pretraining.py that are not settings of `pretrain`, with its defaults."""

    # what is done:
    do_train: bool = False  # whether to train, up to num_train_steps, from output_dir's newest checkpoint if it has one
    do_eval: bool = False  # whether to score the model on the same input_file, whose rows it was trained on, each once
    max_eval_steps: int = 100  # batches of eval_batch_size rows that are scored, at most; no row a second time
    max_predictions_per_seq: int = 20  # masked tokens of a record, at most

    # the TPU:
    use_tpu: bool = False  # whether to compute on this machine's TPU, by JAX
    num_tpu_cores: int = 8  # cores that share each batch, with use_tpu
    iterations_per_loop: int = 1000  # steps that the original leaves to a TPU at a time; changes nothing here
    tpu_name: str = ""  # not looked up: start this program on the TPU's own machine
    tpu_zone: str = ""  # not looked up
    gcp_project: str = ""  # not looked up
    master: str = ""  # refused: TensorFlow 1's sessions on other machines are gone

    def __post_init__(self) -> None:
        """Refuse values that no run can mean."""
        if not self.do_train and not self.do_eval:
            raise ValueError("At least one of `do_train` or `do_eval` must be True.")
        require_at_least(self, 1, "max_predictions_per_seq", "iterations_per_loop", "max_eval_steps", "num_tpu_cores")
        if self.master:
            raise ValueError(
                f'master is "{self.master}", a TensorFlow session on another machine; there are none any more, leave '
                "it out and start this program where it is to compute"
            )

    def on_tpu(self, training: PretrainConfig) -> PretrainConfig:
        """`training` on the TPU that use_tpu asks for, if it does."""
        if not self.use_tpu:
            return training
        if training.backend not in ("", JAX):
            raise ValueError(f"use_tpu is true and backend {training.backend}; TPUs are used by JAX, leave backend out")
        devices = self.num_tpu_cores if self.do_train else 1  # scores are computed on one
        return dataclasses.replace(training, backend=JAX, devices=devices)

    def evaluate_config(self, training: PretrainConfig) -> EvaluateConfig:
        """The same settings as `evaluate` knows them."""
        return EvaluateConfig(
            eval_batch_size=training.eval_batch_size,
            max_examples=self.max_eval_steps * training.eval_batch_size,
            precision=training.precision,
            jit_compile=training.jit_compile,
        )


def choose_backend(config: RunPretrainingConfig, training: PretrainConfig) -> None:
    """Let Keras compute with what the flags ask for; ValueError for a TPU that is not there.

    Call it before anything that loads Keras is imported: bertline.model.pretraining.google does.
    """
    if config.tpu_name or config.tpu_zone or config.gcp_project:
        say("tpu_name, tpu_zone and gcp_project are not looked up: a TPU is used by the machine that it belongs to")
    if config.use_tpu:
        require_tpu_cores(config.num_tpu_cores)
    use_backend(training.backend)
