"""How fast a training goes, from the durations of its steps alone."""

from collections import deque

from bertline.model.flops import StepWork

WINDOW = 50  # steps that a rate is a mean of
PREFIXES = ("", "k", "M", "G", "T", "P", "E")


class Rates:
    """Sequences, tokens and operations a second over the last steps; evaluations and snapshots are not among them."""

    def __init__(self, work: StepWork, peak_flops: float) -> None:
        """`peak_flops` is what the devices together do at most, per second."""
        self._work, self._peak = work, peak_flops
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._compiled = False

    def add(self, seconds: float) -> None:
        """Note the duration of a step; the first one of a run is left out, it compiles."""
        if self._compiled:
            self._seconds.append(seconds)
        self._compiled = True

    def row(self) -> dict[str, float]:
        """The rates by TensorBoard's names; none before the second step."""
        if not self._seconds:
            return {}
        steps_a_second = len(self._seconds) / max(sum(self._seconds), 1e-9)
        flops = self._work.flops * steps_a_second
        return {
            "rate/sequences_per_second": self._work.sequences * steps_a_second,
            "rate/tokens_per_second": self._work.tokens * steps_a_second,
            "rate/model_flops_per_second": flops,
            "rate/share_of_peak": flops / self._peak,
        }

    def facts(self) -> dict[str, float | str]:
        """The rates as a progress bar shows them."""
        row = self.row()
        if not row:
            return {}
        flops = f"{with_prefix(row['rate/model_flops_per_second'])} ({row['rate/share_of_peak']:.0%} of peak)"
        sequences, tokens = row["rate/sequences_per_second"], row["rate/tokens_per_second"]
        return {"sequences/s": f"{sequences:,.1f}", "tokens/s": f"{tokens:,.0f}", "FLOP/s": flops}


def with_prefix(value: float) -> str:
    """Three digits and a prefix: 31.2G."""
    power = 0
    while value >= 999.5 and power < len(PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g}{PREFIXES[power]}"
