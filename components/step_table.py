"""The table of all steps: the pipeline's typed contract.

A new step is its module, an entry here, and its place in the graph (pipelines/pretraining.py).
"""

from bertline.components.declaration import FILE, MODEL, TEXT, VOCABULARY, Input, Step

SENTENCES = "sentences, as `bertline split` writes them"
CHECKPOINT = "a checkpoint, or the best weights inside one (checkpoint_128/best)"
ANY_MODEL = (
    "a model of any format: a released zip or folder (bert_model.ckpt), a Hugging Face, sentence-transformers, "
    "SavedModel or bertline folder"
)

INGEST = Step(
    name="ingest",
    summary="Read dumps of Wikipedia, books and other text into documents",
    example="bertline ingest --dump enwiki-pages-articles.xml.bz2 --books shelf/ --out documents",
    inputs={
        "dump": Input(
            TEXT,
            "Wikipedia pages-articles dumps (.xml, .xml.bz2, .xml.gz): files or globs, comma-separated",
            optional=True,
        ),
        "books": Input(TEXT, "plain-text books: a folder, files or globs", optional=True),
        "text": Input(TEXT, "plain-text files, a document each: globs", optional=True),
        "wikiextractor": Input(TEXT, "a folder of WikiExtractor output (<doc> or --json)", optional=True),
        "jsonl": Input(TEXT, 'JSON lines with a "text" each: globs', optional=True),
    },
    config="bertline.components.corpus.ingest.run:IngestConfig",
    run="bertline.components.corpus.ingest.run:run",
    kind="documents",
    output="documents",
    code=("bertline.components.corpus.ingest.wikiextractor_program",),
    sources="bertline.components.corpus.ingest.run:list_source_files",
)
SPLIT = Step(
    name="split",
    summary="Split documents into sentences, one on a line",
    example="bertline split --documents documents --out sentences",
    inputs={"documents": Input("documents", "documents, as `bertline ingest` writes them")},
    config="bertline.components.corpus.split:SplitConfig",
    run="bertline.components.corpus.split:run",
    kind="sentences",
    output="sentences",
)
VOCAB = Step(
    name="vocab",
    summary="Learn a vocab.txt from sentences, or check a released one",
    example="bertline vocab --sentences sentences --size 30000 --out vocab.txt",
    inputs={
        "sentences": Input("sentences", SENTENCES, optional=True),
        "released": Input(
            FILE, "a released vocab.txt, to be checked and copied instead", optional=True, instead_of="sentences"
        ),
    },
    config="bertline.components.corpus.vocabulary:VocabularyConfig",
    run="bertline.components.corpus.vocabulary:run",
    kind="vocabulary",
    output="vocabulary",
    one_of=("sentences", "released"),
    only_file="vocab.txt",
)
PREPARE = Step(
    name="prepare",
    summary="Make records of masked words and next sentences",
    example="bertline prepare --sentences sentences --vocab vocab.txt --max_seq_length 128 --out records_128",
    inputs={
        "sentences": Input("sentences", SENTENCES),
        "vocab": Input(VOCABULARY, "a vocab.txt, or a vocabulary artifact", recorded_as="vocabulary"),
    },
    config="bertline.components.pretraining_data.config:PrepareConfig",
    run="bertline.components.pretraining_data.prepare:run",
    kind="{config.kind}",
    output="records",
    in_place="bertline.components.pretraining_data.files:list_inputs_in_place",
    resumes=True,
)
PRETRAIN = Step(
    name="pretrain",
    summary="Train a model on records: one stage of the schedule",
    example="bertline pretrain --records records_128 --vocab vocab.txt --model tiny --num_train_steps 1000 "
    "--num_warmup_steps 100 --stop_at_step 900 --out checkpoint_128\n"
    "  bertline pretrain --records records_512 --checkpoint checkpoint_128 --max_seq_length 512 "
    "--num_train_steps 1000 --num_warmup_steps 100 --out checkpoint_512\n"
    "Ctrl-C, SIGTERM and a dropped ssh save the step, and the same command goes on, as after a crash.",
    inputs={
        "records": Input("records", "records, as `bertline prepare` writes them"),
        "vocab": Input(
            VOCABULARY,
            "the vocab.txt of the records; not needed with --checkpoint or --initial",
            optional=True,
            recorded_as="vocabulary",
        ),
        "checkpoint": Input("checkpoint", "the stage before, whose schedule goes on", optional=True),
        "initial": Input(
            MODEL,
            "a released model of any format, whose weights start a schedule of their own",
            optional=True,
            read="bertline.model.formats.detect:read_model",
        ),
        "heldout": Input(
            "records",
            "records never trained on (`bertline prepare --part heldout`), scored at the end and every "
            "eval_every_steps; the weights with the lowest masked-LM loss are kept, in <out>/best if not the last",
            optional=True,
        ),
    },
    config="bertline.model.pretraining.config:PretrainConfig",
    run="bertline.model.pretraining.run:run",
    kind="checkpoint_{config.max_seq_length}",
    output="model",
    code=("bertline.model.training.backends.hosts",),
    one_of=("vocab", "checkpoint", "initial"),
    requires=("bertline.components.pretraining_data.files:require_other_documents",),
    trains=True,
    shared=True,
)
EVALUATE = Step(
    name="evaluate",
    summary="Score a checkpoint on held-out records",
    example="bertline evaluate --checkpoint checkpoint_512 --records heldout_128 --out scores",
    inputs={
        "checkpoint": Input("checkpoint", CHECKPOINT),
        "records": Input("records", "records never trained on (`bertline prepare --part heldout`)"),
    },
    config="bertline.model.pretraining.evaluate:EvaluateConfig",
    run="bertline.model.pretraining.evaluate:run",
    kind="scores",
    label="scores on {records}",
    output="scored",
    requires=("bertline.components.pretraining_data.files:require_held_out",),
    scores=True,
)
FINETUNE = Step(
    name="finetune",
    summary="Train a checkpoint on a task, and score it there",
    example="bertline finetune --checkpoint checkpoint_512 --task mrpc --train MRPC/train.tsv --dev MRPC/dev.tsv "
    "--out finetuned",
    inputs={
        "checkpoint": Input("checkpoint", f"{CHECKPOINT}, pretrained"),
        "task": Input(TEXT, "the task: mrpc (sentence pairs) or sst2 (single sentences)", shown_as="TASK"),
        "train": Input(FILE, "the task's training set, .tsv in its GLUE columns"),
        "dev": Input(FILE, "the task's development set"),
    },
    config="bertline.model.finetuning.run:FinetuneConfig",
    run="bertline.components.tasks.classification:finetune",
    kind="finetuned_{task}",
    output="model",
    trains=True,
    scores=True,
)
EXPORT = Step(
    name="export",
    summary="Write a checkpoint for another library, such as transformers",
    example="bertline export --checkpoint checkpoint_512 --out exported",
    inputs={"checkpoint": Input("checkpoint", CHECKPOINT)},
    config="bertline.model.formats.export:ExportConfig",
    run="bertline.model.formats.export:run",
    kind="export_{config.to}",
    output="model",
)
CONVERT = Step(
    name="convert",
    summary="Turn a model of any format into another, and compare the two",
    example="bertline convert uncased_L-12_H-768_A-12.zip bert-base --to huggingface",
    inputs={
        "source": Input(MODEL, ANY_MODEL, recorded_as="model"),
        "vocab_file": Input(FILE, "a vocab.txt, if none lies beside a TF1 checkpoint", optional=True),
        "bert_config_file": Input(FILE, "a bert_config.json, likewise", optional=True),
        "new_vocab": Input(
            FILE,
            "a vocab.txt that the written model has instead: embeddings of shared pieces are kept, new ones made of "
            "their old pieces",
            optional=True,
        ),
    },
    config="bertline.model.formats.convert:ConvertConfig",
    run="bertline.model.formats.convert:run",
    kind="{config.kind}",
    output="model",
)
STEPS = {step.name: step for step in (INGEST, SPLIT, VOCAB, PREPARE, PRETRAIN, EVALUATE, FINETUNE, EXPORT, CONVERT)}
