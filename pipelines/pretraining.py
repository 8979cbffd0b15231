"""The pretraining pipeline: from a dump and books to a fine-tuned, evaluated and exported BERT.

One graph for every platform: `run` executes it in this process by kfp.local, `compile` writes it for
Kubeflow Pipelines and for Vertex AI.
"""

from typing import Any

from kfp import dsl

from bertline.components import steps
from bertline.pipelines.platforms import Platform

NAME = "bertline-pretraining"


def pretraining_pipeline(platform: Platform) -> Any:
    """The KFP pipeline with the resources that `platform` gives its tasks.

    Parameters of the pipeline: `store`, the folder of all artifacts; `run`, the name under which this
    run's notes are kept; `sources`, the text (fields of Sources); `released_vocabulary`, a vocab.txt or
    ""; `released_model`, a model of any format to go on from, or ""; `tasks`, a list of {kind, train,
    dev}; and one dict per step, the fields of its config.
    """

    @dsl.pipeline(name=NAME, description="Wikipedia dump and books to an evaluated BERT")
    def pretraining(
        run: str,
        sources: dict,
        tasks: list,
        store: str = platform.store,
        released_vocabulary: str = "",
        released_model: str = "",
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
    ) -> None:
        place: dict[str, Any] = {"store": store, "run": run}

        data, training = platform.on_data_machine, platform.on_training_machine

        documents = data(steps.ingest(**place, sources=sources, config=ingest), "ingest").output
        sentences = data(steps.split(**place, documents=documents, config=split), "split").output
        vocab = data(
            steps.vocabulary(**place, sentences=sentences, released=released_vocabulary, config=vocabulary),
            "vocabulary",
        ).output

        def records(name: str, config: Any) -> Any:
            task = steps.prepare(**place, name=name, sentences=sentences, vocab=vocab, config=config)
            return data(task, name).output

        records_128 = records("prepare_128", prepare_128)
        records_512 = records("prepare_512", prepare_512)
        unseen_128 = records("heldout_128", heldout_128)
        unseen_512 = records("heldout_512", heldout_512)
        stage_128 = training(
            steps.pretrain(
                **place,
                name="pretrain_128",
                records=records_128,
                vocab=vocab,
                heldout=unseen_128,
                released=released_model,
                config=pretrain_128,
            ),
            "pretrain_128",
        )
        stage_512 = training(
            steps.pretrain(
                **place,
                name="pretrain_512",
                records=records_512,
                initial=stage_128.outputs["checkpoint"],
                heldout=unseen_512,
                config=pretrain_512,
            ),
            "pretrain_512",
        )
        checkpoint = stage_512.outputs["checkpoint"]
        finished = [
            training(steps.evaluate(**place, name=name, checkpoint=checkpoint, records=unseen, config=evaluate), name)
            for name, unseen in (("evaluate_128", unseen_128), ("evaluate_512", unseen_512))
        ]
        finished.append(data(steps.export(**place, checkpoint=checkpoint, config=export), "export"))
        with dsl.ParallelFor(tasks, parallelism=1, name="tasks") as settings:
            task = steps.finetune(**place, checkpoint=checkpoint, settings=settings, config=finetune)
            finished.append(training(task, "finetune"))
        data(steps.draw_lineage(**place), "lineage").after(*finished)

    return pretraining
