"""What runs cost in hours and money, and what a large corpus asks for: arithmetic on rates.py, nothing is measured.

    python benchmarks/costs.py costs      # the tables of docs/guides/costs.md
    python benchmarks/costs.py scaling    # those of docs/guides/scaling.md; --write puts them there

GB are 10^9 bytes. Training's rate is the share of the peak that NVIDIA's BERT-Large reaches on an A100, on any device.
"""

import argparse
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from cost_model import (
    DISK_GB,
    HOUR,
    Corpus,
    data_dollars,
    data_steps,
    price,
    processors,
    rate,
    request_dollars,
    shards,
    stored_gb,
    training_hours,
)
from rates import MEASURED, PRICES, RATES, Figure

MODELS = ("tiny", "mini", "small", "medium", "base", "large")
ACCELERATORS = ("gpu-l4", "gpu-a100", "gpu-h100", "tpu-v5e", "tpu-v6e")
GUIDES = Path(__file__).parents[1] / "docs" / "guides"
TABLE = re.compile(r"(?<=<!-- by benchmarks/costs.py -->\n\n)(?:\|.*\n)+")
DOMAIN, WIKIPEDIA, TERABYTE = Corpus("1 GB", 1), Corpus("English Wikipedia", 20, 24), Corpus("1 TB", 1000)
WHOLE = (  # corpus, recipe, model, accelerators and how many
    *((DOMAIN, "budget", model, "gpu-l4", 1) for model in ("tiny", "mini", "small", "medium")),
    (DOMAIN, "budget", "base", "tpu-v5e", 4),
    *((WIKIPEDIA, "budget", model, "gpu-l4", 1) for model in ("small", "medium")),
    (WIKIPEDIA, "budget", "base", "tpu-v5e", 8),
    (WIKIPEDIA, "budget", "base", "gpu-h100", 1),
    (WIKIPEDIA, "budget", "large", "tpu-v6e", 8),
    (WIKIPEDIA, "paper", "base", "tpu-v6e", 8),
    (WIKIPEDIA, "paper", "large", "tpu-v6e", 8),
)


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """As Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in ([*heads], *map(list, rows))]
    lines.insert(1, "|---" * lines[0].replace(" | ", "|").strip("| ").count("|") + "|---|")
    return "\n".join(lines)


def number(value: float) -> str:
    """Two digits at least, none that means nothing: 0.42, 3.1, 12, 1,234."""
    return f"{value:,.2g}" if value < 1 else f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def dollars(value: float) -> str:
    """With cents below ten."""
    return f"${value:,.2f}" if value < 10 else f"${value:,.0f}"


def figure_table(figures: dict[str, Figure], what: str) -> str:
    """What the arithmetic is done on."""
    rows = ((name, f"{each.value:,.6g} {each.unit}".strip(), each.source) for name, each in figures.items())
    return table((what, "", "source"), rows)


def training_table(name: str) -> str:
    """Hours of one device, dollars on Compute Engine, and on spot machines."""

    def cell(model: str, accelerator: str) -> str:
        hours = training_hours(name, model, accelerator)
        spot = hours * RATES["spot machines that are taken away"].value * price(f"{accelerator}, spot")
        return f"{number(hours)} h, {dollars(hours * price(accelerator))} ({dollars(spot)})"

    rows = ([model, *(cell(model, each) for each in ACCELERATORS)] for model in MODELS)
    return table((f"`{name}`", *ACCELERATORS), rows)


def data_table() -> str:
    """Hours and dollars of the data steps on one machine."""
    rows = []
    for corpus in (DOMAIN, WIKIPEDIA):
        for name in ("budget", "paper"):
            steps = data_steps(corpus, name)
            each = ", ".join(f"{step.name} {number(step.hours)}" for step in steps)
            hours = sum(step.hours for step in steps)
            gb = sum(step.written_gb for step in steps)
            cells = (f"{processors(corpus)}", each, number(hours), dollars(data_dollars(corpus, name)), number(gb))
            rows.append((f"{corpus.name}, `{name}`", *cells))
    return table(("text", "processors", "hours of each step", "hours", "dollars", "GB written"), rows)


def run_table() -> str:
    """Whole runs on both platforms."""
    heads = ("text", "recipe, model", "on", "hours", "Vertex AI", "GKE", "GKE, training on spot", "GB", "a month")
    rows = []
    for corpus, name, model, accelerator, count in WHOLE:
        device_hours = training_hours(name, model, accelerator)
        data, requests = data_dollars(corpus, name), request_dollars(corpus, name)
        hours = sum(step.hours for step in data_steps(corpus, name)) + device_hours / count
        train, more = device_hours * price(accelerator), RATES["spot machines that are taken away"].value
        spot = device_hours * more * price(f"{accelerator}, spot")
        vertex = data * price("Vertex AI, processors") + train * price("Vertex AI, accelerators")
        cluster = hours * price("GKE, the cluster") + requests
        gb = stored_gb(corpus, name, model)
        money = (
            vertex + requests + price("a run of Vertex AI Pipelines"),
            data + train + cluster,
            data + spot + cluster,
        )
        cells = (f"{count} x {accelerator}", number(hours), *map(dollars, money), number(gb))
        rows.append((corpus.name, f"`{name}`, {model}", *cells, dollars(gb * price("storage"))))
    return table(heads, rows)


def step_table(corpus: Corpus, name: str) -> str:
    """What each data step asks of a machine, its disk and the store."""
    rows = []
    for step in data_steps(corpus, name):
        held = step.read_gb + step.written_gb
        carried = held / RATES["the way from a bucket to a machine"].value / HOUR
        asked = (step.writes + step.objects) * RATES["an answer of Cloud Storage"].value
        asked_hours = asked / RATES["transfers at once"].value / HOUR
        sizes = (number(step.read_gb), number(step.written_gb), "yes" if held < DISK_GB else "**no**")
        cells = (number(step.core_hours), number(step.hours), *sizes, f"{step.objects:,}", f"{step.writes:,}")
        rows.append((step.name, *cells, number(max(carried, asked_hours))))
    heads = (
        "core hours",
        f"hours on {processors(corpus)} cores",
        "GB read",
        "GB written",
        f"fits {DISK_GB} GB of disk",
    )
    return table((f"{corpus.name}, `{name}`", *heads, "files", "writes", "hours to carry them"), rows)


def dataflow_table(name: str) -> str:
    """`prepare` on Dataflow, both lengths one after the other."""
    heads = (
        "shards",
        "processor hours",
        "files",
        "writes a second, if all is done in an hour",
        "shuffled GB",
        "dollars",
    )
    rows = []
    for corpus in (WIKIPEDIA, TERABYTE):
        steps = [step for step in data_steps(corpus, name) if step.name.startswith("prepare")]
        core_hours = sum(step.core_hours for step in steps) / RATES["a Dataflow worker's use of its processor"].value
        shuffled = len(steps) * corpus.text_gb
        hourly = price("Dataflow, processor") + 4 * price("Dataflow, memory")
        money = core_hours * hourly + shuffled * price("Dataflow, shuffle")
        objects = sum(step.objects for step in steps) + len(steps) * shards(corpus)
        cells = (number(core_hours), f"{objects:,}", number(objects / HOUR), number(shuffled), dollars(money))
        rows.append((corpus.name, f"{shards(corpus):,}", *cells))
    return table((f"`{name}`", *heads), rows)


def chip_table(name: str, model: str, accelerator: str) -> str:
    """Training on more and more chips."""
    rows = []
    for chips in (1, 8, 32, 128):
        hours = training_hours(name, model, accelerator) / chips
        read = [chips * rate(model, length, accelerator) for length in (128, 512)]
        rows.append((f"{chips}", number(hours), *map(number, read), dollars(hours * chips * price(accelerator))))
    return table((f"chips of {accelerator}", "hours", "sequences/s at 128", "at 512", "dollars"), rows)


def write_costs() -> Iterator[str]:
    """The tables of docs/guides/costs.md, in its order."""
    yield run_table()
    yield training_table("budget")
    yield training_table("paper")
    yield data_table()
    yield figure_table(PRICES, "price, dollars")
    yield figure_table(RATES, "rate")
    yield figure_table(MEASURED, "measured here")


def write_scaling() -> Iterator[str]:
    """The tables of docs/guides/scaling.md, in its order."""
    yield step_table(WIKIPEDIA, "budget")
    yield step_table(WIKIPEDIA, "paper")
    yield step_table(TERABYTE, "budget")
    yield dataflow_table("budget")
    yield chip_table("budget", "base", "tpu-v5e")


PAGES = {"costs": write_costs, "scaling": write_scaling}


def fill(page: str, tables: Iterable[str]) -> str:
    """A page with these tables in place of its own, in their order; ValueError where they are not as many."""
    parts = TABLE.split(page)
    given = list(tables)
    if len(parts) != len(given) + 1:
        raise ValueError(f"the page has {len(parts) - 1} tables, and there are {len(given)}")
    return parts[0] + "".join(f"{new}\n{part}" for new, part in zip(given, parts[1:], strict=True))


def main() -> None:
    """Print the tables of a page, or put them there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", choices=PAGES)
    parser.add_argument("--write", action="store_true", help="Put them into the page.")
    flags = parser.parse_args()
    file = GUIDES / f"{flags.page}.md"
    if flags.write:
        file.write_text(fill(file.read_text(encoding="utf-8"), PAGES[flags.page]()), encoding="utf-8")
    else:
        print("\n\n".join(PAGES[flags.page]()))


if __name__ == "__main__":
    main()
