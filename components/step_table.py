"""The steps as published artifacts: what the command line and the KFP components call.

Each function names a step's inputs and the code that makes its output; the work itself is the `run`
function of that module, imported late so that a finished step starts neither Beam nor TensorFlow.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertline.components.pretraining_data.heldout_split import Part
from bertline.components.store.artifacts import (
    Artifact,
    Counts,
    Provenance,
    Store,
    find,
    place_of,
    publish,
    work_folder,
)
from bertline.components.store.manifests import MANIFEST, describe, read_manifest, verify

if TYPE_CHECKING:
    from bertline.components.corpus.ingest.sources import IngestConfig, Sources
    from bertline.components.corpus.split import SplitConfig
    from bertline.components.corpus.vocabulary import VocabularyConfig
    from bertline.components.pretraining_data.config import PrepareConfig
    from bertline.model.finetuning.run import FinetuneConfig
    from bertline.model.formats.convert import ConvertConfig
    from bertline.model.formats.export import ExportConfig
    from bertline.model.formats.loaded_model import Opened
    from bertline.model.pretraining.config import PretrainConfig
    from bertline.model.pretraining.evaluate import EvaluateConfig
    from bertline.model.training.backends.hosts import Hosts


def ingest(out: Path | Store, config: "IngestConfig", sources: "Sources") -> Artifact:
    """Dumps, books and other text -> documents."""
    from bertline.components.corpus.ingest.run import run

    provenance = Provenance(
        kind="documents",
        step="ingest",
        inputs=sources.files(),
        config=config,
        code=["bertline.components.corpus.ingest.run", "bertline.components.corpus.ingest.wikiextractor_program"],
    )
    return publish(out, provenance, lambda folder, _: run(sources, folder, config))


def split(out: Path | Store, config: "SplitConfig", documents: Path) -> Artifact:
    """Documents -> sentences, one a line."""
    from bertline.components.corpus.split import run

    provenance = Provenance(
        "sentences", "split", {"documents": [_is(documents, "documents")]}, config, ["bertline.components.corpus.split"]
    )
    return publish(out, provenance, lambda folder, _: run(documents, folder, config))


def vocabulary(
    out: Path | Store, config: "VocabularyConfig", sentences: Path | None = None, released: Path | None = None
) -> Artifact:
    """A released vocab.txt, checked, or one learned from sentences."""
    from bertline.components.corpus.vocabulary import run

    inputs = {"released": [released]} if released else {"sentences": [_is(sentences, "sentences")]} if sentences else {}
    if not inputs:
        raise ValueError("no vocabulary and no sentences; give a vocab.txt, or sentences to learn one from")
    provenance = Provenance("vocabulary", "vocab", inputs, config, ["bertline.components.corpus.vocabulary"])
    return publish(out, provenance, lambda folder, _: run(sentences, folder, config, released=released))


def prepare(out: Path | Store, config: "PrepareConfig", sentences: Path, vocab: Path) -> Artifact:
    """Sentences -> masked-LM / next-sentence records."""
    from bertline.components.pretraining_data.prepare import run

    provenance = Provenance(
        kind=config.kind,
        step="prepare",
        inputs={"sentences": [_is(sentences, "sentences")], "vocabulary": [vocab]},
        config=config,
        code=["bertline.components.pretraining_data.prepare"],
    )

    def write(folder: Path, work: Path) -> Counts:
        # The work of a run with other settings or inputs is none of this one's.
        return run(sentences, vocab_file(vocab), folder, config, work / provenance.fingerprint())

    return publish(out, provenance, write)


def pretrain(
    out: Path | Store,
    config: "PretrainConfig",
    records: Path,
    vocab: Path | None = None,
    checkpoint: Path | None = None,
    initial: Path | None = None,
    heldout: Path | None = None,
) -> Artifact:
    """Records -> a checkpoint at the end of this stage.

    TensorBoard's event files lie in `<out>.tensorboard`, snapshots that are to be kept in `<out>.snapshots`. On the
    records `heldout` it is scored on the way; its best weights are the checkpoint `<out>/best`. Where several hosts
    train together, each calls this, and the first publishes.
    """
    from bertline.model.formats.detect import read_model
    from bertline.model.pretraining.run import run
    from bertline.model.training.backends.hosts import joined
    from bertline.model.training.backends.use import use_backend
    from bertline.model.training.snapshots import lay_beside
    from bertline.preemption import ended_by_sigterm

    inputs = {
        "records": [_is(records, "records")],
        "vocabulary": [vocab] if vocab else [],
        "checkpoint": [_is(checkpoint, "checkpoint")] if checkpoint else [],
        "initial": _model_inputs(initial) if initial else [],
        "heldout": [_never_trained_on(records, _is(heldout, "records"))] if heldout else [],
    }
    provenance = Provenance(
        kind=f"checkpoint_{config.max_seq_length}",
        step="pretrain",
        inputs={name: paths for name, paths in inputs.items() if paths},
        config=config,
        code=["bertline.model.pretraining.run", *(["bertline.model.formats.detect"] if initial else [])],
    )
    vocab_txt = vocab_file(vocab) if vocab else None

    def write(folder: Path, work: Path) -> Counts:
        use_backend(config.backend)  # before a model is read, which loads Keras
        counts = run(
            records,
            vocab_txt,
            folder,
            config,
            work=work,
            checkpoint=checkpoint,
            initial=read_model(initial) if initial else None,
            heldout=heldout,
            log_dir=work.with_suffix(".tensorboard"),
            hosts=hosts,
            digests=provenance.digests(),
        )
        if hosts.writes and config.keep_checkpoints_every_steps:
            lay_beside(work.with_suffix(".snapshots"), work, config.keep_checkpoints_every_steps)
        return counts

    with ended_by_sigterm(listens=config.hosts == 1), joined(config) as hosts:  # several are told by JAX's service
        return _published_by_first(hosts, out, provenance, write)


def evaluate(out: Path | Store, config: "EvaluateConfig", checkpoint: Path, records: Path) -> Artifact:
    """A checkpoint's masked-LM and next-sentence scores on held-out records."""
    from bertline.model.pretraining.evaluate import run

    provenance = Provenance(
        kind="scores",
        step="evaluate",
        inputs={"checkpoint": [_is(checkpoint, "checkpoint")], "records": [_is(records, "records")]},
        config=config,
        code=["bertline.model.pretraining.evaluate"],
    )
    return publish(out, provenance, lambda folder, _: run(checkpoint, records, folder, config))


def finetune(
    out: Path | Store, config: "FinetuneConfig", checkpoint: Path, task: str, train: Path, dev: Path
) -> Artifact:
    """A checkpoint fine-tuned on one task and scored on the task's development set."""
    from bertline.components.tasks.classification import read_task
    from bertline.model.finetuning.run import run

    provenance = Provenance(
        kind=f"finetuned_{task}",
        step="finetune",
        inputs={"checkpoint": [_is(checkpoint, "checkpoint")], "train": [train], "dev": [dev]},
        config=config,
        code=["bertline.model.finetuning.run", "bertline.components.tasks.classification"],
    )

    def write(folder: Path, _: Path) -> Counts:
        data = read_task(task, train, dev, checkpoint, config.max_seq_length)
        return run(checkpoint, data.train, data.dev, data.labels, folder, config)

    return publish(out, provenance, write)


def export(out: Path | Store, config: "ExportConfig", checkpoint: Path) -> Artifact:
    """A checkpoint in another library's format."""
    from bertline.model.formats.export import run

    provenance = Provenance(
        kind=f"export_{config.to}",
        step="export",
        inputs={"checkpoint": [_is(checkpoint, "checkpoint")]},
        config=config,
        code=["bertline.model.formats.export"],
    )
    return publish(out, provenance, lambda folder, _: run(checkpoint, folder, config))


def convert(
    out: Path,
    config: "ConvertConfig",
    source: Path,
    files: Mapping[str, Path],
    tell: Callable[["Opened"], None],
) -> Artifact:
    """A model of any format in another one; a bertline folder can be trained, tuned and scored like our own."""
    from bertline.model.formats.convert import OWN_FORMAT, run

    provenance = Provenance(
        kind="checkpoint_converted" if config.to == OWN_FORMAT else f"export_{config.to}",
        step="convert",
        inputs={"model": _model_inputs(source), **{name: [path] for name, path in files.items()}},
        config=config,
        code=["bertline.model.formats.convert"],
    )
    return publish(out, provenance, lambda folder, _: run(source, folder, config, **files, tell=tell))


def _published_by_first(
    hosts: "Hosts", out: Path | Store, provenance: Provenance, write: Callable[[Path, Path], Counts]
) -> Artifact:
    """What the first host publishes; `write` runs on all of them."""
    if hosts.count == 1:
        return publish(out, provenance, write)
    hosts.agree(provenance.facts())
    made = find(out, provenance)
    hosts.agree({"what is there of the step": "nothing" if made is None else "all"})
    if made is not None:
        return made
    place = place_of(out, provenance)
    hosts.share(work_folder(place))
    if hosts.writes:
        publish(out, provenance, write)
    else:
        write(place, work_folder(place))
    hosts.meet("published")
    return Artifact(place, verify(place), reused=False)


def _model_inputs(model: Path) -> list[Path]:
    """An artifact, or the files of a model that bertline did not make."""
    from bertline.model.formats.detect import model_files

    return [model] if (model / MANIFEST).is_file() else model_files(model)


def _is(path: Path, kind: str) -> Path:
    """`path`, once it is seen to be a whole artifact of that kind."""
    from bertline.model.training.best import BEST_FILE, BEST_FOLDER

    if path.name == BEST_FOLDER and not path.exists() and (path.parent / BEST_FILE).is_file():
        raise FileNotFoundError(f"{path}: the last weights are the best; give {path.parent}")
    read_manifest(path, kind)
    return path


def _never_trained_on(records: Path, heldout: Path) -> Path:
    """`heldout`, once it is seen to share no document with the records of training, where they are of one text."""
    if describe(records)["digest"] == describe(heldout)["digest"]:
        raise ValueError(f'{heldout}: trained on, not held out; run "bertline prepare --part heldout"')
    (text, trained), (other_text, scored) = (_documents_of(read_manifest(path)) for path in (records, heldout))
    if text and text == other_text and trained.overlaps(scored):
        raise ValueError(
            f"{heldout}: {scored}, {records}: {trained} of the same text, so documents are in both; prepare --part "
            "train and --part heldout with one heldout_share"
        )
    return heldout


def _documents_of(manifest: Mapping[str, Any]) -> tuple[list[str], Part]:
    """The digests of the text of which records are made, and the part of it."""
    text = [entry["digest"] for entry in manifest["inputs"] if entry["name"] == "sentences"]
    settings = manifest["parameters"]
    return text, Part(settings.get("part", "all"), settings.get("heldout_share", 0.0))


def vocab_file(vocab: Path) -> Path:
    """`vocab` itself, or the vocab.txt inside a vocabulary artifact or a checkpoint."""
    return vocab / "vocab.txt" if vocab.is_dir() else vocab
