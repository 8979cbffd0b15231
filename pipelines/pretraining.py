"""The pretraining pipeline: from a dump and books to a fine-tuned, evaluated and exported BERT.

One graph for every platform: `run` executes it in this process by kfp.local, `compile` writes it for
Kubeflow Pipelines and for Vertex AI.
"""

from typing import Any, Dict, List  # noqa: UP035 - KFP knows the types of a list's items by these names alone

from bertline.components.step_table import STEPS
from bertline.pipelines.platforms import Platform

NAME = "bertline-pretraining"
# Parameters of the pipeline that hold settings -> the step that takes them.
STEP_OF_SETTINGS = {
    "ingest": "ingest",
    "split": "split",
    "vocabulary": "vocab",
    **dict.fromkeys(("prepare_128", "prepare_512", "heldout_128", "heldout_512"), "prepare"),
    **dict.fromkeys(("pretrain_128", "pretrain_512"), "pretrain"),
    "evaluate": "evaluate",
    "finetune": "finetune",
    "export": "export",
}


def build_pipeline(platform: Platform) -> Any:
    """The KFP pipeline with the resources that `platform` gives its tasks.

    Parameters of the pipeline: `store`, the folder of all artifacts; `run`, the name under which this run's notes
    are kept; the sources of text (inputs of the step ingest); `vocab`, a released vocab.txt, and `initial`, a model
    of any format to go on from, or ""; `tasks`, a list of {kind, train, dev}; one dict of settings per step; and
    `promotion`, the rule by which `latest` leads to what the run made.
    """
    from kfp import dsl

    from bertline.components.steps import draw_lineage, promote

    @dsl.pipeline(name=NAME, description="Wikipedia dump and books to an evaluated BERT")
    def pretraining(
        run: str,
        tasks: List[Dict[str, str]],  # noqa: UP006
        store: str = platform.store,
        dump: str = "",
        books: str = "",
        text: str = "",
        wikiextractor: str = "",
        jsonl: str = "",
        vocab: str = "",
        initial: str = "",
        ingest: dict = {},
        split: dict = {},
        vocabulary: dict = {},
        prepare_128: dict = {},
        prepare_512: dict = {},
        heldout_128: dict = {},
        heldout_512: dict = {},
        pretrain_128: dict = {},
        pretrain_512: dict = {},
        evaluate: dict = {},
        finetune: dict = {},
        export: dict = {},
        promotion: str = "always",
    ) -> None:
        def add(step: str, name: str, **inputs: Any) -> Any:
            return platform.add_task(step, name, store=store, run=run, name=name, **inputs)

        def make(step: str, name: str, **inputs: Any) -> Any:
            return add(step, name, **inputs).outputs[STEPS[step].output]  # a platform's job has outputs of its own

        def make_records(name: str, config: Any) -> Any:
            return make("prepare", name, sentences=sentences, vocab=words, config=config)

        sources = {"dump": dump, "books": books, "text": text, "wikiextractor": wikiextractor, "jsonl": jsonl}
        documents = make("ingest", "ingest", **sources, config=ingest)
        sentences = make("split", "split", documents=documents, config=split)
        words = make("vocab", "vocabulary", sentences=sentences, released=vocab, config=vocabulary)
        records_128 = make_records("prepare_128", prepare_128)
        records_512 = make_records("prepare_512", prepare_512)
        unseen_128 = make_records("heldout_128", heldout_128)
        unseen_512 = make_records("heldout_512", heldout_512)
        stage_128 = make(
            "pretrain",
            "pretrain_128",
            records=records_128,
            vocab=words,
            initial=initial,
            heldout=unseen_128,
            config=pretrain_128,
        )
        checkpoint = make(
            "pretrain",
            "pretrain_512",
            records=records_512,
            checkpoint=stage_128,
            heldout=unseen_512,
            config=pretrain_512,
        )
        finished = [
            add("evaluate", "evaluate_128", checkpoint=checkpoint, records=unseen_128, config=evaluate),
            add("evaluate", "evaluate_512", checkpoint=checkpoint, records=unseen_512, config=evaluate),
            add("export", "export", checkpoint=checkpoint, config=export),
        ]
        with dsl.ParallelFor(tasks, parallelism=1, name="tasks") as task:
            files = {"train": task.train, "dev": task.dev}
            arguments = {"checkpoint": checkpoint, "task": task.kind, **files, "config": finetune}
            tuned = platform.add_task("finetune", "finetune", store=store, run=run, **arguments)
            finished.append(tuned)
        platform.add_task(promote, "promote", store=store, run=run, rule=promotion).after(*finished)
        platform.add_task(draw_lineage, "lineage", store=store, run=run).after(*finished)

    return pretraining


def compile_pipeline(platform: Platform, path: str) -> None:
    """Write the pipeline's IR YAML for `platform`; Kubeflow's has a second document (its volumes)."""
    from kfp import compiler

    compiler.Compiler().compile(build_pipeline(platform), path)
