"""The optimizers and schedules to choose from, with their sources."""

from dataclasses import dataclass

BERT_ADAM, ADAMW, LAMB = "bert_adam", "adamw", "lamb"
OPTIMIZERS = (BERT_ADAM, ADAMW, LAMB)
ORIGINAL_DECAY, LINEAR_DECAY = "original", "linear"
DECAYS = (ORIGINAL_DECAY, LINEAR_DECAY)


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to `learning_rate`, then linear decay that reaches 0 at `num_train_steps`."""

    learning_rate: float
    num_train_steps: int
    num_warmup_steps: int
    decay: str = ORIGINAL_DECAY  # counts from step 0, as google-research/bert; linear: from the end of the warm-up

    def __post_init__(self) -> None:
        """Refuse an unknown decay."""
        if self.decay not in DECAYS:
            raise ValueError(f'learning_rate_decay is "{self.decay}"; known: {", ".join(DECAYS)}')


@dataclass(frozen=True)
class Rule:
    """How a gradient moves a variable; defaults are google-research/bert's optimization.py.

    bert_adam is AdamW without bias correction; adamw is Loshchilov and Hutter 2019, with it; lamb is You et al.
    2019, algorithm 2.
    """

    name: str = BERT_ADAM
    weight_decay: float = 0.01
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-6
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        """Refuse rules that cannot work."""
        if self.name not in OPTIMIZERS:
            raise ValueError(f'optimizer is "{self.name}"; known: {", ".join(OPTIMIZERS)}')
        for name in ("beta_1", "beta_2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay is {self.weight_decay}; it must be at least 0")
        for name in ("epsilon", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
