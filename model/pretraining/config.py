"""The settings of one stage of pretraining."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from bertline.model.attention_init import ATTENTION_INITIALIZERS
from bertline.model.config import MAX_DROPOUT, BertConfig, bert_config, is_config_text
from bertline.model.training.update import DECAYS, OPTIMIZERS, Rule, Schedule
from bertline.settings import (
    BACKENDS,
    PRECISIONS,
    one_of,
    require_at_least,
    require_choices,
    require_positive,
    require_seed,
)

NEW_MODEL = "base"
SCHEDULE_FIELDS = ("learning_rate", "num_train_steps", "num_warmup_steps", "learning_rate_decay")


@dataclass(frozen=True)
class PretrainConfig:
    """One stage of pretraining; the stages of one model share the schedule."""

    # the model:
    model: str = ""  # a size (tiny, mini, small, medium, base, large, or 4/512 for 4 layers of 512), or the path of
    # a bert_config.json; none: that of the model that goes on, or base
    max_seq_length: int = 128  # tokens of a record; Devlin et al. 2018, A.2: 90 % of the steps at 128, the rest at 512
    do_lower_case: bool = True  # whether the records' text was lower-cased; kept with the model
    dropout: float = -1.0  # share of hidden units and of attention dropped in training; -1: the model configuration's,
    # 0.1 in all released ones
    initializer_range: float = 0.0  # standard deviation of the first weights; 0: the model configuration's, 0.02 in all
    # released ones
    attention_initializer: str = one_of("random", ATTENTION_INITIALIZERS)  # how heads begin: at random, or at the
    # neighbouring words, which suits short trainings; Trockman and Kolter 2023
    pre_layer_norm: bool = False  # whether layers normalise what they read, which is steadier at high learning rates;
    # Xiong et al. 2020
    initialize: str = ""  # heads to make afresh where a released model lacks them, comma-separated: pooler, masked_lm,
    # next_sentence

    # the schedule:
    train_batch_size: int = 32  # sequences of a step, on all devices together; the paper has 256
    num_train_steps: int = 100_000  # steps of the whole schedule, over all stages; run_pretraining's default
    num_warmup_steps: int = 10_000  # steps in which the learning rate rises; Devlin et al. 2018, A.2
    stop_at_step: int = 0  # last step of this stage, counted over all stages; 0: num_train_steps
    learning_rate: float = 1e-4  # the learning rate's peak, at the end of the warm-up; Devlin et al. 2018, A.2; 2e-5
    # suits a released model that goes on (its README)
    learning_rate_decay: str = one_of("original", DECAYS)  # how the rate falls to 0: from step 0 as the original, with
    # a jump after the warm-up, or linear from the warm-up's end
    seed: int = 12345  # seed of the first weights, the order of examples and dropout

    # the optimizer:
    optimizer: str = one_of("bert_adam", OPTIMIZERS)  # which optimizer: the original's, without bias correction; adamw:
    # Loshchilov and Hutter 2019; lamb: You et al. 2019, for large batches
    weight_decay: float = Rule.weight_decay  # decay of all weights but biases and layer normalisations; Devlin et al.
    # 2018, A.2

    # the machine:
    backend: str = one_of("", ("", *BACKENDS))  # what computes; none: the variable KERAS_BACKEND's, or tensorflow
    precision: str = one_of("float32", PRECISIONS)  # precision of the computation; mixed_bfloat16 is faster on
    # processors that have it
    devices: int = 1  # devices that share each batch, of all hosts together (jax)
    gradient_accumulation_steps: int = 1  # parts in which a batch is computed, one after the other, to need less memory
    recompute_layers: int = 0  # layers whose values the gradient computes again, to need less memory; 0: none
    steps_per_call: int = 1  # updates of one compiled call; more keep a fast device busy where a step takes few ms
    jit_compile: bool = True  # whether XLA compiles, which repeats to the bit; without it bfloat16 is faster on
    # processors that have it
    hosts: int = 1  # machines that train together, on which the same command runs with files that all see (jax)
    host: int = field(default=-1, metadata={"volatile": True})  # this machine's number, from 0; -1: the cluster says
    coordinator: str = field(default="", metadata={"volatile": True})  # ADDRESS:PORT of host 0; none: the cluster says

    # scores on held-out records:
    eval_every_steps: int = 0  # steps between two scores; 0: at the end of the stage only
    eval_batch_size: int = 32  # held-out records that are scored at a time
    max_eval_examples: int = 0  # how many of the held-out records are scored, from the first; 0: all

    # checkpoints and log:
    save_checkpoints_steps: int = field(default=1000, metadata={"volatile": True})  # steps between two snapshots, at
    # which an interrupted training goes on; run_pretraining's default
    keep_checkpoints: int = field(default=2, metadata={"volatile": True})  # snapshots that are kept, the newest; two,
    # should a disk damage one
    keep_checkpoints_every_steps: int = field(default=0, metadata={"volatile": True})  # steps between two snapshots
    # that stay for good, in <out>.snapshots; 0: none
    log_every_steps: int = 100  # steps between two rows of training_log.jsonl

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require_positive(self, "learning_rate")
        counts = ("max_seq_length", "train_batch_size", "num_train_steps", "log_every_steps")
        require_at_least(self, 1, *counts, "save_checkpoints_steps", "gradient_accumulation_steps", "devices")
        require_at_least(self, 1, "eval_batch_size", "steps_per_call", "keep_checkpoints", "hosts")
        require_at_least(self, 0, "stop_at_step", "num_warmup_steps", "recompute_layers")
        require_at_least(self, 0, "eval_every_steps", "max_eval_examples", "keep_checkpoints_every_steps")
        require_choices(self)
        require_seed(self.seed)
        if self.initialize:
            from bertline.model.formats.loaded_model import require_known_heads

            require_known_heads(self.initialize)
        _ = self.schedule, self.rule  # which refuse what they do not know
        shares = self.gradient_accumulation_steps * self.devices
        if self.train_batch_size % shares:
            raise ValueError(
                f"train_batch_size is {self.train_batch_size}, not a multiple of gradient_accumulation_steps * "
                f"devices, {shares}; give one that is"
            )
        self._require_possible_hosts()
        if self.initializer_range < 0:
            raise ValueError(f"initializer_range is {self.initializer_range}; it must be positive, or 0")
        if self.dropout != -1 and not 0 <= self.dropout <= MAX_DROPOUT:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and at most {MAX_DROPOUT}, or -1")
        for name in ("stop_at_step", "num_warmup_steps"):
            if getattr(self, name) > self.num_train_steps:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must not exceed num_train_steps, {self.num_train_steps}"
                )

    def _require_possible_hosts(self) -> None:
        if self.devices % self.hosts:
            raise ValueError(
                f"devices is {self.devices}, not a multiple of hosts, {self.hosts}; "
                "it counts those of all hosts together"
            )
        if not -1 <= self.host < self.hosts:
            raise ValueError(f"host is {self.host}; it must be at least 0 and below hosts, {self.hosts}, or -1")
        address, _, port = self.coordinator.rpartition(":")
        if self.coordinator and not (address and port.isdecimal()):
            raise ValueError(f'coordinator is "{self.coordinator}"; give ADDRESS:PORT of host 0')
        if self.coordinator and self.host < 0:
            raise ValueError("coordinator is given, but not host, this host's number from 0")

    def named_files(self) -> dict[str, Path]:
        """The bert_config.json, where the model is not one of the sizes."""
        return {"model": Path(self.model)} if not is_config_text(self.model) and Path(self.model).is_file() else {}

    @property
    def schedule(self) -> Schedule:
        """The learning rate of every step, over all stages."""
        steps = self.num_train_steps, self.num_warmup_steps
        return Schedule(self.learning_rate, *steps, decay=self.learning_rate_decay)

    @property
    def schedule_settings(self) -> dict[str, int | float]:
        """What the stages of one model must agree on."""
        return {name: getattr(self, name) for name in SCHEDULE_FIELDS}

    def model_shape(self, vocab_size: int, there: BertConfig | None = None) -> BertConfig:
        """The model's configuration, with the initial range and dropout that the stage asks for.

        `there` is that of the model that goes on, which is kept where the stage names no other.
        """
        shape = there if there is not None and not self.model else bert_config(self.model or NEW_MODEL, vocab_size)
        changes: dict[str, float | bool] = {}
        if self.initializer_range > 0:
            changes["initializer_range"] = self.initializer_range
        if self.dropout >= 0:
            changes |= {"hidden_dropout_prob": self.dropout, "attention_probs_dropout_prob": self.dropout}
        if self.pre_layer_norm:
            changes["pre_layer_norm"] = True
        return dataclasses.replace(shape, **changes)  # type: ignore[arg-type]

    @property
    def rule(self) -> Rule:
        """How gradients move weights."""
        return Rule(self.optimizer, weight_decay=self.weight_decay)

    @property
    def last_step(self) -> int:
        """The step this stage ends at, counted over all stages."""
        return self.stop_at_step or self.num_train_steps
