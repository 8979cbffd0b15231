"""Sentences -> records of masked-LM / next-sentence instances, by Apache Beam.

Only documents cross a shuffle: a sentence or an example that did would cost more there than all the work on
it. Each document goes to the shard that a hash of its id names; one worker then makes the shard's files. On this
machine not even their text crosses it but the places where it lies: the local runner keeps in memory what it
shuffles. Memory grows with the largest shard, not with the corpus.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertline.components.pages.statistics import draw_statistics
from bertline.components.pretraining_data.config import PrepareConfig
from bertline.components.pretraining_data.files import (
    PROCESSES,
    DocumentPlace,
    DocumentText,
    SentenceFile,
    document_key,
    document_places,
    for_workers,
    is_in_bucket,
    is_local,
    list_sentence_files,
    open_bytes,
    read_texts,
    require_reachable,
)
from bertline.components.pretraining_data.shards import (
    TOTAL_FILE,
    ShardWriter,
    count_done,
    count_finished,
    forget_done,
    shard_files,
    totals_path,
    word_pieces,
    write_shard,
    write_totals,
)
from bertline.components.pretraining_data.statistics import (
    Counts,
    Totals,
    counts_of,
    statistics,
    sum_totals,
    take_files,
)
from bertline.components.run_process import end_with_parent
from bertline.components.store.manifests import FACTS, IN_BUCKET
from bertline.model.records.masking import mask_rules, write_masking
from bertline.model.records.reader import STATISTICS_FILE
from bertline.progress import Progress, say
from bertline.tokenizer.compiled import is_cached
from bertline.tokenizer.segment import segmenter
from bertline.tokenizer.wordpiece import Vocabulary, WordPieceTokenizer, load_vocabulary

if TYPE_CHECKING:
    import apache_beam as beam

# Negatives come from the other documents of a shard: fewer would repeat the same ones.
LEAST_DOCUMENTS_PER_SHARD = 32
SHARD_TEXT_BYTES = 8 << 20  # what a worker holds at once, in ten times as much memory; files of 170 MB by default
COUNTS_FILE, PAGE_FILE = "token_counts.npy", "stats.html"


def run(sentences: Path, vocab: Path, out: Path, config: PrepareConfig, work: Path | None = None) -> Counts:
    """Write the records of one part of the documents into `out`, with what they hold in numbers beside them.

    `sentences` is a folder of sentences-*.txt and ids-*.txt, `vocab` a vocab.txt. Finished shards are kept in
    `work`, where a run after a kill finds them. Raises FileNotFoundError for missing inputs, ValueError for
    files that do not correspond and for a part without instances.
    """
    _warn_of_few_predictions(config)
    kept = work or out
    totals, shards = write_shards(list_sentence_files(sentences), str(sentences), vocab, kept, config)
    vocabulary = load_vocabulary(vocab)
    files = take_files(totals)
    if is_in_bucket(kept, config.runner):
        left = {f"{for_workers(kept, config.runner)}/{each['path']}": each for each in files}
        (out / IN_BUCKET).write_text(json.dumps(left, indent=1), encoding="utf-8")
    else:
        _move_shards(shards, kept, out, config)
    if (kept / FACTS).is_file() and work is not None:
        (kept / FACTS).replace(out / FACTS)
    np.save(out / COUNTS_FILE, np.array(totals["token_counts"], np.int64))
    if config.masking == "dynamic":
        write_masking(out, config.mask_config(), config.seed, vocabulary)
    counts = counts_of(totals, shards, vocabulary.unk_id, config)
    content = {"kind": config.kind, **statistics(totals, counts, vocabulary, config)}
    (out / STATISTICS_FILE).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (out / PAGE_FILE).write_text(draw_statistics(content), encoding="utf-8")
    return counts


def _move_shards(shards: int, work: Path, out: Path, config: PrepareConfig) -> None:
    for number in range(shards):
        Path(totals_path(str(work), number)).unlink()
        for name in shard_files(number, shards, config):
            (out / name).parent.mkdir(exist_ok=True)
            (work / name).replace(out / name)


def _warn_of_few_predictions(config: PrepareConfig) -> None:
    wanted = math.ceil(config.masked_lm_prob * config.max_seq_length)
    if config.max_predictions_per_seq < wanted:
        say(
            f"max_predictions_per_seq is {config.max_predictions_per_seq}: less than masked_lm_prob, "
            f"{config.masked_lm_prob:.0%}, of long rows will be masked; {wanted} suit max_seq_length "
            f"{config.max_seq_length}"
        )


def write_shards(
    files: Sequence[SentenceFile], name: str, vocab: Path, work: Path, config: PrepareConfig
) -> tuple[Totals, int]:
    """The shards of the documents in `files`, in the folder `work`: what was counted, and how many there are.

    `name` is what messages call the input. Raises ValueError for a path that the runner's workers cannot reach.
    """
    for path in (work, vocab, *(Path(file.text) for file in files)):
        require_reachable(path, config.runner)
    files = [_where_it_lies(file, config.runner) for file in files]
    vocabulary = load_vocabulary(vocab)
    require_usable(vocabulary, config)
    shards, documents = _count_shards(files, name, config)
    for file in shard_files(0, shards, config):
        (work / file).parent.mkdir(parents=True, exist_ok=True)
    forget_done(work)
    if finished := count_finished(work):
        say(f"prepare: {finished} of {shards} shards were made before an interruption, kept")
    if not is_cached():
        say("prepare: the inner loops are being compiled, once for this machine: about 15 s")
    run_shards = _run_processes if config.runner == PROCESSES else _run_beam
    done, followed = partial(count_done, work, documents, shards), not is_in_bucket(work, config.runner)
    with Progress("prepare", documents, "documents", done()) as progress:
        progress.doing(f"starting {config.runner}")
        with progress.follow(done) if followed else nullcontext():
            totals = run_shards(files, vocab, work, shards, config)
        if not followed:
            progress.advance(documents)
    forget_done(work)
    if not totals.get("instances"):
        raise ValueError(f'{name}: the documents of part "{config.part}" hold too little text for one instance')
    if totals["tokens"] == totals["token_counts"][vocabulary.unk_id]:
        raise ValueError(f"{vocab}: all words of {name} are unknown to it; is it the vocabulary of this language?")
    return totals, shards


def _where_it_lies(file: SentenceFile, runner: str) -> SentenceFile:
    """The file on this machine, or in the bucket where it has not been brought here."""
    if Path(file.text).is_file():
        return file
    return file._replace(text=for_workers(file.text, runner), ids=for_workers(file.ids, runner) if file.ids else "")


def require_usable(vocabulary: Vocabulary, config: PrepareConfig) -> None:
    """Refuse, before all is read, a vocabulary or a segmenter that a shard's writer would refuse."""
    mask_rules(config.mask_config(), vocabulary, config.max_seq_length)
    if config.do_lower_case and vocabulary.is_cased and config.semantics != "google":
        capitals, entries = vocabulary.capitals, len(vocabulary)
        raise ValueError(
            f"do_lower_case is true, but {len(capitals):,} of the vocabulary's {entries:,} pieces have capital letters "
            f"({', '.join(capitals[:3])}, ...); set --do_lower_case=false"
        )
    if config.segmenter:
        segmenter(config.segmenter)


def _count_shards(files: Sequence[SentenceFile], name: str, config: PrepareConfig) -> tuple[int, int]:
    """How many shards to make, of how many documents; reads everything once, so that errors come before the work."""
    part = config.part_of_text
    total = chosen = size_bytes = 0
    for file in files:
        if config.num_shards and "://" in file.ids:  # the texts stay where they are
            with open_bytes(file.ids) as ids:
                held = [part.holds(line.decode("utf-8").rstrip("\n")) for line in ids]
            total, chosen = total + len(held), chosen + sum(held)
            continue
        for place in document_places(file):
            total += 1
            if part.holds(place.document_id):
                chosen += 1
                size_bytes += place.end_bytes - place.start_bytes
    if not total:
        raise ValueError(f"{name}: holds no documents; it takes one sentence a line, and text in some of them")
    if not chosen:
        advice = f"{'raise' if config.part == 'heldout' else 'lower'} heldout_share of all parts"
        raise ValueError(f"{name}: none of its {total} documents is in {part}; {advice}, or add documents")
    wanted = config.num_shards or -(-size_bytes // SHARD_TEXT_BYTES)
    return min(wanted, max(1, chosen // LEAST_DOCUMENTS_PER_SHARD)), chosen


def _run_processes(
    files: Sequence[SentenceFile], vocab: Path, work: Path, shards: int, config: PrepareConfig
) -> Totals:
    """The graph's functions without Beam, whose start alone takes longer than 20 MB of text on one core."""
    by_shard: dict[int, list[Any]] = {}
    for file in files:
        for number, places in _key_documents(file, shards, config):
            by_shard.setdefault(number, []).append(places)
    write = partial(_write_shard, vocab=str(vocab), folder=str(work), shards=shards, config=config)
    if min(config.num_workers, len(by_shard)) == 1:
        return sum_totals(map(write, by_shard.items()))
    with ProcessPoolExecutor(min(config.num_workers, len(by_shard)), initializer=end_with_parent) as processes:
        return sum_totals(processes.map(write, by_shard.items()))


def _run_beam(files: Sequence[SentenceFile], vocab: Path, work: Path, shards: int, config: PrepareConfig) -> Totals:
    from bertline.components.pretraining_data.beam_runs import run_beam

    build = partial(build_graph, files=files, vocab=vocab, work=work, shards=shards, config=config)
    return run_beam(build, work, shards, config)


def build_graph(
    pipeline: "beam.Pipeline",
    files: Sequence[SentenceFile],
    vocab: Path,
    work: Path,
    shards: int,
    config: PrepareConfig,
) -> None:
    """The pipeline's transforms, the same for every runner; it ends with the file totals.json in `work`."""
    import apache_beam as beam

    runner = config.runner
    reachable = [
        file._replace(text=for_workers(file.text, runner), ids=for_workers(file.ids, runner) if file.ids else "")
        for file in files
    ]
    words, folder = for_workers(vocab, runner), for_workers(work, runner)
    (
        pipeline
        | "Sentence files" >> beam.Create(reachable)
        | "To all workers" >> beam.Reshuffle()
        | "Documents" >> beam.FlatMap(_key_documents, shards, config)
        | "By shard" >> beam.GroupByKey()
        | "Records" >> beam.Map(_write_shard, words, folder, shards, config)
        | "Sum" >> beam.CombineGlobally(sum_totals)
        | "Totals" >> beam.Map(write_totals, f"{folder}/{TOTAL_FILE}")
    )


def _key_documents(
    file: SentenceFile, shards: int, config: PrepareConfig
) -> Iterator[tuple[int, list[DocumentPlace] | DocumentText]]:
    """(shard, document) for each of the part; on this machine (shard, places): one element for all of a file."""
    part = config.part_of_text
    chosen = (place for place in document_places(file) if part.holds(place.document_id))
    if not is_local(config.runner):
        yield from ((document_key(document.document_id) % shards, document) for document in read_texts(chosen))
        return
    by_shard: dict[int, list[DocumentPlace]] = {}
    for place in chosen:
        by_shard.setdefault(document_key(place.document_id) % shards, []).append(place)
    yield from by_shard.items()


def _write_shard(
    shard: tuple[int, Iterable[list[DocumentPlace] | DocumentText]],
    vocab: str,
    folder: str,
    shards: int,
    config: PrepareConfig,
) -> Totals:
    number, documents = shard
    each = (one for group in documents for one in (group if isinstance(group, list) else [group]))
    return write_shard(number, each, _writer(vocab, config, folder, shards))


@lru_cache(maxsize=1)
def _writer(vocab: str, config: PrepareConfig, folder: str, shards: int) -> ShardWriter:
    """One for all shards of a worker: its tokenizer gets faster with every word that it has met."""
    vocabulary = _load_vocabulary(vocab)
    segment = segmenter(config.segmenter) if config.segmenter else None
    tokenizer = WordPieceTokenizer(vocabulary, config.do_lower_case)
    encode = word_pieces(tokenizer, config.do_whole_word_mask, segment)
    rules = mask_rules(config.mask_config(), vocabulary, config.max_seq_length)
    return ShardWriter(folder, shards, config, vocabulary, encode, rules)


def _load_vocabulary(path: str) -> Vocabulary:
    """A vocab.txt that may lie in a bucket."""
    if "://" not in path:
        return load_vocabulary(Path(path))
    import tempfile

    with tempfile.NamedTemporaryFile() as copy, open_bytes(path) as file:
        Path(copy.name).write_bytes(file.read())
        return load_vocabulary(Path(copy.name))
