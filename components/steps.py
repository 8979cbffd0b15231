"""The KFP faces of all steps: this page is the pipeline's typed contract.

KFP ships each function's source alone, so a body imports what it uses, no module constant is a default,
and annotations are evaluated at once. `store` is a folder that every task can reach (a local
folder, a mounted volume, Vertex's /gcs/BUCKET); the artifacts passed between tasks point into it.
"""

import functools
import os

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

# The image that a cluster runs; the local runner only wants to see "python" in the name.
IMAGE = os.environ.get("BERTLINE_IMAGE", "bertline-python:latest")

step = functools.partial(dsl.component, base_image=IMAGE, install_kfp_package=False)


@step
def ingest(store: str, run: str, sources: dict, config: dict, documents: Output[Dataset]) -> None:
    """Wikipedia dumps, books and other text -> documents."""
    from bertline.components import kfp_artifacts as handover
    from bertline.components import step_table as published
    from bertline.components.corpus.ingest.sources import IngestConfig, Sources
    from bertline.settings import from_mapping

    handover.perform(
        *("ingest", store, run, documents),
        lambda out: published.ingest(out, from_mapping(IngestConfig, config), from_mapping(Sources, sources)),
    )


@step
def split(store: str, run: str, documents: Input[Dataset], config: dict, sentences: Output[Dataset]) -> None:
    """Documents -> sentences, one a line."""
    from bertline.components import kfp_artifacts as handover
    from bertline.components import step_table as published
    from bertline.components.corpus.split import SplitConfig
    from bertline.settings import from_mapping

    handover.perform(
        *("split", store, run, sentences),
        lambda out: published.split(out, from_mapping(SplitConfig, config), handover.taken(documents)),
    )


@step
def vocabulary(
    store: str, run: str, sentences: Input[Dataset], released: str, config: dict, vocab: Output[Artifact]
) -> None:
    """The released vocabulary named, checked; without one, a vocabulary learned from the sentences."""
    from pathlib import Path

    from bertline.components import kfp_artifacts as handover
    from bertline.components import step_table as published
    from bertline.components.corpus.vocabulary import VocabularyConfig
    from bertline.settings import from_mapping

    file = Path(released) if released else None
    handover.perform(
        *("vocabulary", store, run, vocab),
        lambda out: published.vocabulary(
            out, from_mapping(VocabularyConfig, config), handover.taken(sentences), released=file
        ),
    )


@step
def prepare(
    store: str,
    run: str,
    name: str,
    sentences: Input[Dataset],
    vocab: Input[Artifact],
    config: dict,
    records: Output[Dataset],
) -> None:
    """Sentences -> records of masked-LM / next-sentence instances."""
    from bertline.components import kfp_artifacts as handover
    from bertline.components import step_table as published
    from bertline.components.pretraining_data.config import PrepareConfig
    from bertline.settings import from_mapping

    handover.perform(
        *(name, store, run, records),
        lambda out: published.prepare(
            out, from_mapping(PrepareConfig, config), handover.taken(sentences), handover.taken(vocab)
        ),
    )


@step
def pretrain(
    store: str,
    run: str,
    name: str,
    records: Input[Dataset],
    config: dict,
    checkpoint: Output[Model],
    vocab: Input[Artifact] = None,
    initial: Input[Model] = None,
    heldout: Input[Dataset] = None,
    released: str = "",
) -> None:
    """Records -> the checkpoint at the end of one stage, scored on held-out ones.

    It goes on from `initial`, the stage before, or from a `released` model of any format.
    """
    from pathlib import Path

    from bertline.components import kfp_artifacts as handover
    from bertline.components import step_table as published
    from bertline.model.pretraining.config import PretrainConfig
    from bertline.settings import from_mapping

    handover.perform(
        *(name, store, run, checkpoint),
        lambda out: published.pretrain(
            out,
            from_mapping(PretrainConfig, config),
            handover.taken(records),
            vocab=handover.taken(vocab) if vocab else None,
            checkpoint=handover.taken(initial) if initial else None,
            initial=Path(released) if released else None,
            heldout=handover.taken(heldout) if heldout else None,
        ),
    )


@step
def evaluate(
    store: str,
    run: str,
    name: str,
    checkpoint: Input[Model],
    records: Input[Dataset],
    config: dict,
    scores: Output[Metrics],
) -> None:
    """A checkpoint's scores on held-out records."""
    from bertline.components import kfp_artifacts as handover
    from bertline.components import step_table as published
    from bertline.model.pretraining.evaluate import EvaluateConfig
    from bertline.settings import from_mapping

    made = handover.perform(
        *(name, store, run, scores),
        lambda out: published.evaluate(
            out, from_mapping(EvaluateConfig, config), handover.taken(checkpoint), handover.taken(records)
        ),
    )
    for key, value in made.manifest["counts"].items():
        scores.log_metric(key, value)


@step
def finetune(
    store: str,
    run: str,
    checkpoint: Input[Model],
    settings: dict,
    config: dict,
    model: Output[Model],
    scores: Output[Metrics],
) -> None:
    """A checkpoint fine-tuned and scored on the task that `settings` (kind, train, dev) names."""
    from pathlib import Path

    from bertline.components import kfp_artifacts as handover
    from bertline.components import step_table as published
    from bertline.model.finetuning.run import FinetuneConfig
    from bertline.settings import from_mapping

    kind, files = settings["kind"], (Path(settings["train"]), Path(settings["dev"]))
    made = handover.perform(
        *(f"finetune_{kind}", store, run, model),
        lambda out: published.finetune(
            out, from_mapping(FinetuneConfig, config), handover.taken(checkpoint), kind, *files
        ),
    )
    for key, value in made.manifest["counts"].items():
        scores.log_metric(key, value)


@step
def export(store: str, run: str, checkpoint: Input[Model], config: dict, exported: Output[Model]) -> None:
    """A checkpoint in another library's format."""
    from bertline.components import kfp_artifacts as handover
    from bertline.components import step_table as published
    from bertline.model.formats.export import ExportConfig
    from bertline.settings import from_mapping

    handover.perform(
        *("export", store, run, exported),
        lambda out: published.export(out, from_mapping(ExportConfig, config), handover.taken(checkpoint)),
    )


@step
def draw_lineage(store: str, run: str, page: Output[HTML]) -> None:
    """The page that shows what was made from what."""
    from pathlib import Path

    from bertline.components.pages.lineage import write_page

    text = write_page(Path(store), Path(store) / "runs" / run / "lineage.html", run=run)
    Path(page.path).write_text(text, encoding="utf-8")
