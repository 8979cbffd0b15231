"""The settings of google-research/bert's run_pretraining.py, and some more."""

import dataclasses
from dataclasses import dataclass, field

from bertline.model.pretraining.config import PretrainConfig
from bertline.model.pretraining.evaluate import EvaluateConfig
from bertline.model.training.backends.tpu import require_tpu_cores
from bertline.model.training.backends.use import use_backend
from bertline.progress import say
from bertline.settings import require_at_least, require_backend

JAX = "jax"


@dataclass(frozen=True)
class RunPretrainingConfig:
    """The settings of run_pretraining.py with its defaults, and some more."""

    max_seq_length: int = 128  # of the records
    max_predictions_per_seq: int = 20  # of the records
    do_train: bool = False  # train up to num_train_steps, from output_dir's newest checkpoint if there is one
    do_eval: bool = False  # score the model on the same input_file, whose rows it was trained on, each once
    train_batch_size: int = 32  # rows an update
    eval_batch_size: int = 8  # rows at a time
    learning_rate: float = 5e-5  # its peak, at the end of the warm-up
    num_train_steps: int = 100_000  # of the whole schedule, what output_dir holds already among them
    num_warmup_steps: int = 10_000  # in which the learning rate rises
    save_checkpoints_steps: int = field(default=1000, metadata={"volatile": True})  # steps between two model.ckpt-N
    iterations_per_loop: int = 1000  # steps the original leaves to a TPU at a time; changes nothing here
    max_eval_steps: int = 100  # at most so many times eval_batch_size rows are scored, none a second time
    use_tpu: bool = False  # on this machine's TPU, by JAX
    tpu_name: str = ""  # not looked up: start this program on the TPU's own machine
    tpu_zone: str = ""  # not looked up
    gcp_project: str = ""  # not looked up
    master: str = ""  # refused: TensorFlow 1's sessions on other machines are gone
    num_tpu_cores: int = 8  # cores that share each batch, with use_tpu
    seed: int = 12345  # of the first weights, the order of rows and dropout
    backend: str = ""  # tensorflow or jax; none: the variable KERAS_BACKEND's, or tensorflow
    devices: int = 1  # that share each batch (jax)
    precision: str = "float32"  # or mixed_bfloat16, for processors that have it
    jit_compile: bool = True  # by XLA, which alone is repeatable to the bit
    steps_per_call: int = 1  # updates of one compiled call: more keep a fast device busy where a step takes few ms
    gradient_accumulation_steps: int = 1  # parts of a batch, computed one after the other to need less memory
    recompute_layers: int = 0  # layers whose values the gradient computes again to need less memory; 0: none are
    optimizer: str = "bert_adam"  # the original's; adamw: with bias correction; lamb: for large batches
    weight_decay: float = 0.01  # not of biases and layer normalisations
    learning_rate_decay: str = "original"  # counts from step 0; linear: from the warm-up's end
    log_every_steps: int = 100  # steps a row of training_log.jsonl and of the TensorBoard curves

    def __post_init__(self) -> None:
        """Refuse values that no run can mean; those of training and of evaluation only where they are asked for."""
        if not self.do_train and not self.do_eval:
            raise ValueError("At least one of `do_train` or `do_eval` must be True.")
        names = ("max_seq_length", "max_predictions_per_seq", "iterations_per_loop", "max_eval_steps", "num_tpu_cores")
        require_at_least(self, 1, *names)
        require_backend(self.backend)
        if self.master:
            raise ValueError(
                f'master is "{self.master}", a TensorFlow session on another machine; there are none any more, leave '
                "it away and start this program where it is to compute"
            )
        if self.use_tpu and self.backend not in ("", JAX):
            raise ValueError(f"use_tpu is true and backend {self.backend}; TPUs are used by JAX, leave backend away")
        if self.do_train:
            self.pretrain_config()
        if self.do_eval:
            self.evaluate_config()

    @property
    def backend_in_use(self) -> str:
        """The backend that the flags ask for, "" where they leave it to the environment."""
        return JAX if self.use_tpu else self.backend

    def pretrain_config(self) -> PretrainConfig:
        """The same settings as `pretrain` knows them."""
        names = {field.name for field in dataclasses.fields(PretrainConfig)}
        settings = {name: value for name, value in vars(self).items() if name in names}
        if self.use_tpu:
            settings |= {"backend": JAX, "devices": self.num_tpu_cores}
        return PretrainConfig(**settings)

    def evaluate_config(self) -> EvaluateConfig:
        """The same settings as `evaluate` knows them."""
        return EvaluateConfig(
            eval_batch_size=self.eval_batch_size,
            max_examples=self.max_eval_steps * self.eval_batch_size,
            precision=self.precision,
            jit_compile=self.jit_compile,
        )


def choose_backend(config: RunPretrainingConfig) -> None:
    """Let Keras compute with what the flags ask for; ValueError for a TPU that is not there.

    Call it before anything that loads Keras is imported: bertline.model.pretraining.google does.
    """
    if config.tpu_name or config.tpu_zone or config.gcp_project:
        say("tpu_name, tpu_zone and gcp_project are not looked up: a TPU is used by the machine that it belongs to")
    if config.use_tpu:
        require_tpu_cores(config.num_tpu_cores)
    use_backend(config.backend_in_use)
