"""The arithmetic of costs.py: hours, gigabytes, requests and dollars of steps and of trainings, on rates.py."""

from dataclasses import dataclass

from rates import MEASURED, PRICES, RATES

from bertline.components.corpus.documents import SHARD_SIZE_BYTES
from bertline.components.pretraining_data.prepare import SHARD_TEXT_BYTES
from bertline.model.config import bert_config, parameter_count
from bertline.model.training.speed import pretraining_work
from bertline.pipelines.placing.on_vertex import DISK
from bertline.pipelines.placing.resources import suggest_resources
from bertline.pipelines.recipes import recipe
from bertline.pipelines.run_settings import batch_512

VOCABULARY = 30522
PREDICTIONS = {128: 20, 512: 77}
BYTES_OF_A_WEIGHT = 12  # with both of Adam's slots
DISK_GB = DISK["boot_disk_size_gb"]
HOUR = 3600.0


@dataclass(frozen=True)
class Corpus:
    """Text, of a dump or as JSON lines."""

    name: str
    text_gb: float
    dump_gb: float = 0.0  # of bz2


@dataclass(frozen=True)
class Step:
    """What a data step asks for."""

    name: str
    core_hours: float
    hours: float  # on the table's machine, with as many workers as it has processors
    read_gb: float
    written_gb: float
    objects: int
    writes: int  # requests that write: an object of a work folder is written twice


def price(name: str) -> float:
    """In dollars."""
    return PRICES[name].value


def rate(model: str, length: int, accelerator: str) -> float:
    """Sequences a second of one device."""
    a100 = RATES[f"A100, BERT-Large at {length}"].value * flops("large", length)
    share = a100 / RATES["peak of gpu-a100"].value * RATES[f"{model}, share of Large's use of the peak"].value
    return share * RATES[f"peak of {accelerator}"].value / flops(model, length)


def flops(model: str, length: int) -> float:
    """Of a sequence in training, in units of 10^12."""
    return pretraining_work(bert_config(model, VOCABULARY), 1, length, PREDICTIONS[length]).flops / 1e12


def sequences(name: str, model: str) -> dict[int, int]:
    """Length -> sequences that a recipe trains on."""
    run = recipe(name, model)
    return {128: run.steps_128 * run.batch, 512: run.steps_512 * batch_512(run)}


def training_hours(name: str, model: str, accelerator: str) -> float:
    """Of one device."""
    seconds = sum(count / rate(model, length, accelerator) for length, count in sequences(name, model).items())
    return seconds / HOUR * RATES["scores on held-out records"].value


def processors(corpus: Corpus) -> int:
    """Of the machine that the data steps are given."""
    return suggest_resources("base", corpus.text_gb)["ingest"].cpu


def data_steps(corpus: Corpus, name: str) -> list[Step]:
    """From the text to the records."""
    text_mb, cores = corpus.text_gb * 1000, processors(corpus)
    rates = {each: figure.value for each, figure in MEASURED.items()}
    if corpus.dump_gb:
        ingest = corpus.dump_gb * 1000 / rates["ingest of a dump"] / HOUR
        reader = corpus.dump_gb * 1000 / rates["ingest of a dump, its one reader"] / HOUR
    else:
        ingest = reader = text_mb / rates["ingest of JSON lines, one core"] / HOUR
    split, words = text_mb / rates["split"] / HOUR, text_mb / rates["vocabulary, one core"] / HOUR
    documents, files = corpus.text_gb * rates["documents"], document_files(corpus)
    steps = [
        Step("ingest", ingest, max(reader, ingest / cores), corpus.dump_gb or corpus.text_gb, documents, files, files),
        Step("split", split, split / min(cores, files), documents, corpus.text_gb, 2 * files, 2 * files),
        Step("vocabulary", words, words, corpus.text_gb, 0.0, 1, 1),
    ]
    for length in (128, 512):
        hours = text_mb / rates[f"prepare {length}, {name}"] / HOUR
        written = corpus.text_gb * rates[f"records {length}, {name}"]
        objects = shards(corpus) * widths(name, length)
        writes = round(objects * (rates["writes a shard, made"] - 1)) + shards(corpus)  # a shard's totals, too
        prepare = f"prepare_{length}"
        steps.append(Step(prepare, hours, hours / cores, corpus.text_gb, written, objects, writes))
    return steps


def document_files(corpus: Corpus) -> int:
    """Of documents, and of sentences."""
    return -(-round(corpus.text_gb * 1e9) // SHARD_SIZE_BYTES)


def shards(corpus: Corpus) -> int:
    """Of the records of either length."""
    return -(-round(corpus.text_gb * 1e9) // SHARD_TEXT_BYTES)


def widths(name: str, length: int) -> int:
    """Files of a shard: one for each width of rows."""
    given = [int(width) for width in recipe(name, "base").length_bins.split(",") if width]
    return 1 + sum(width < length for width in given)


def data_dollars(corpus: Corpus, name: str) -> float:
    """On Compute Engine."""
    hours, cores = sum(step.hours for step in data_steps(corpus, name)), processors(corpus)
    return hours * (cores * price("n2-standard") + DISK_GB * price("pd-ssd"))


def request_dollars(corpus: Corpus, name: str) -> float:
    """Of making all, and of training's reading the records once."""
    steps = data_steps(corpus, name)
    writes = sum(step.writes for step in steps) + MEASURED["requests of a run beside its shards"].value
    reads = sum(step.objects for step in steps)
    return (writes * price("writes and lists") + reads * price("reads")) / 1000


def stored_gb(corpus: Corpus, name: str, model: str) -> float:
    """Of a run: data, two checkpoints, an export."""
    weights_gb = parameter_count(bert_config(model, VOCABULARY)) / 1e9
    return sum(step.written_gb for step in data_steps(corpus, name)) + weights_gb * (2 * BYTES_OF_A_WEIGHT + 4)
