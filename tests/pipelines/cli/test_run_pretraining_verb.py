"""The verb run_pretraining: the original's command line, files and scores, and our refusals."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig, encoder_shapes, pretraining_shapes
from bertline.model.formats.tf1.checkpoint import read_tf1, write_tf1
from bertline.model.records.canonical import encode_examples
from bertline.model.training.checkpoint import Checkpoint
from bertline.pipelines.cli.main import main
from bertline.preemption import TRY_AGAIN

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(15))]
SHAPE = BertConfig(
    vocab_size=len(PIECES),
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=16,
)
LENGTH, PREDICTIONS = 12, 2
RECORDS = 10  # of each of two files


def records(seed: int, length: int = LENGTH) -> bytes:
    generator = np.random.default_rng(seed)
    mask = (np.arange(length) < generator.integers(length // 2, length + 1, RECORDS)[:, None]).astype(np.int32)
    features = {
        "input_ids": generator.integers(5, len(PIECES), (RECORDS, length)).astype(np.int32) * mask,
        "input_mask": mask,
        "segment_ids": (np.arange(length) >= 4).astype(np.int32) * mask,
        "masked_lm_positions": generator.integers(1, length // 2, (RECORDS, PREDICTIONS)).astype(np.int32),
        "masked_lm_ids": generator.integers(5, len(PIECES), (RECORDS, PREDICTIONS)).astype(np.int32),
        "masked_lm_weights": np.ones((RECORDS, PREDICTIONS), np.float32),
        "next_sentence_labels": generator.integers(0, 2, (RECORDS, 1)).astype(np.int32),
    }
    return encode_examples(features)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bert_config.json, vocab.txt, records a-0 and a-1, and long.tfrecord with longer rows."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    (folder / "bert_config.json").write_text(json.dumps(SHAPE.to_mapping()))
    for number in range(2):
        (folder / f"a-{number}.tfrecord").write_bytes(records(number))
    (folder / "long.tfrecord").write_bytes(records(2, length=16))
    return folder


def argv_of(given: Path, out: Path, *flags: str) -> list[str]:
    """The original's command with a toy's figures; later flags win."""
    return [
        "run_pretraining",
        f"--input_file={given}/a-0.tfrecord,{given}/a-1*",
        f"--bert_config_file={given}/bert_config.json",
        f"--output_dir={out}",
        f"--max_seq_length={LENGTH}",
        f"--max_predictions_per_seq={PREDICTIONS}",
        "--train_batch_size=4",
        "--learning_rate=1e-2",
        "--num_train_steps=8",
        "--num_warmup_steps=2",
        "--save_checkpoints_steps=2",
        "--log_every_steps=3",
        "--jit_compile=False",
        *flags,
    ]


def assert_same_files(one: Path, other: Path, step: int) -> None:
    name = f"model.ckpt-{step}"
    for file in (f"{name}.index", f"{name}.data-00000-of-00001", f"{name}.json", "checkpoint", "training_log.jsonl"):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


@pytest.fixture(scope="module")
def trained(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """output_dir after 8 steps of training without interruption."""
    out = tmp_path_factory.mktemp("trained") / "out"
    assert main(argv_of(given, out, "--do_train=True")) == 0
    return out


def test_it_leaves_what_the_originals_users_expect(given: Path, trained: Path) -> None:
    import tensorflow as tf

    assert (trained / "checkpoint").read_text().splitlines() == [
        'model_checkpoint_path: "model.ckpt-8"',
        *(f'all_model_checkpoint_paths: "model.ckpt-{step}"' for step in (2, 4, 6, 8)),
    ]
    assert tf.train.latest_checkpoint(str(trained)) == str(trained / "model.ckpt-8")
    reader = tf.train.load_checkpoint(str(trained))
    weights = pretraining_shapes(SHAPE)
    slots = {f"{name}/{slot}": shape for name, shape in weights.items() for slot in ("adam_m", "adam_v")}
    found = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
    assert found == {**weights, **slots, "global_step": ()}
    assert (reader.get_tensor("global_step"), reader.get_tensor("global_step").dtype) == (8, np.int64)
    assert list(trained.glob("events.out.tfevents.*"))
    ours = read_tf1(trained).checkpoint
    assert (ours.bert_config, ours.state["step"]) == (SHAPE, 8)
    assert ours.vocabulary == (given / "vocab.txt").read_bytes()
    assert ours.slots is not None
    assert np.abs(ours.slots["bert/pooler/dense/kernel/adam_v"]).max() > 0
    rows = [json.loads(line) for line in (trained / "training_log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6, 8]
    # The original's schedule, the first update with the rate of step 1: 1e-2 * (1 - t/8) after 2 steps of warm-up.
    assert [row["learning_rate"] for row in rows] == pytest.approx([1e-2 * 5 / 8, 1e-2 * 2 / 8, 0.0], abs=1e-8)


def test_it_goes_on_from_the_newest_whole_checkpoint_to_the_same_bytes(
    given: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(trained, tmp_path / "out")
    for file in out.glob("model.ckpt-8.*"):
        file.unlink()
    note = [f'all_model_checkpoint_paths: "model.ckpt-{step}"\n' for step in (2, 4, 6)]
    (out / "checkpoint").write_text("".join(['model_checkpoint_path: "model.ckpt-6"\n', *note]))
    data = out / "model.ckpt-6.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-100])
    assert main(argv_of(given, out, "--do_train=True", "--init_checkpoint=none/model.ckpt")) == 0
    said = capsys.readouterr().err
    assert f"{out}/model.ckpt-6: damaged, going back to model.ckpt-4 (" in said
    assert f"{out}/model.ckpt-4: training goes on from its step 4" in said
    assert f"none/model.ckpt: not read, {out} holds a checkpoint already" in said
    assert " there and " not in said
    assert_same_files(out, trained, 8)


def test_a_finished_training_trains_nothing_more_and_more_steps_go_on(
    given: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(trained, tmp_path / "out")
    assert main(argv_of(given, out, "--do_train=True")) == 0
    assert "model.ckpt-8 is at step 8, num_train_steps is 8: nothing is left to train" in capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == {path.name for path in trained.iterdir()}
    more = "--do_train", "True", "--num_train_steps=14", "--train_batch_size", "5", "--jit_compile=false"
    assert main(argv_of(given, out, *more)) == 0
    said = capsys.readouterr().err
    assert "train_batch_size is 4 there and 5 here" in said
    assert "num_train_steps is 8 there and 14 here" in said
    checkpoint = read_tf1(out).checkpoint
    assert checkpoint.state["step"] == 14
    kept = [file.name for file in out.glob("*.index")]
    assert sorted(kept) == sorted(f"model.ckpt-{step}.index" for step in (6, 8, 10, 12, 14))


COMMAND = "import sys; from bertline.pipelines.cli.main import main; sys.exit(main(sys.argv[1:]))"
LONG = ("--do_train=True", "--num_train_steps=300", "--log_every_steps=7", "--save_checkpoints_steps=10")


@pytest.fixture(scope="module")
def long_trained(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """output_dir after 300 steps without interruption."""
    out = tmp_path_factory.mktemp("long") / "out"
    assert main(argv_of(given, out, *LONG)) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_interrupted_and_run_again_gives_the_same_bytes(
    given: Path, long_trained: Path, tmp_path: Path, number: signal.Signals, signal_once
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *argv_of(given, out, *LONG)], stderr=subprocess.DEVNULL)
    signal_once(process, number, (out / "checkpoint").exists)
    assert process.returncode == (TRY_AGAIN if number == signal.SIGTERM else -signal.SIGKILL)
    reached = [int(step) for step in re.findall(r"^all_.*-(\d+)", (out / "checkpoint").read_text(), re.MULTILINE)]
    assert 0 < max(reached) < 300
    assert main(argv_of(given, out, *LONG)) == 0
    assert_same_files(out, long_trained, 300)


@pytest.mark.slow
def test_jax_on_two_devices_trains_alike(given: Path, trained: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMMAND, *argv_of(given, tmp_path / "out", "--do_train=True", "--do_eval=True")]
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([*command, "--backend=jax", "--devices=2"], env=environment, check=True)
    ours, theirs = (
        [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "out", trained)
    )
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], abs=1e-5)
    assert (tmp_path / "out" / "eval_results.txt").is_file()


def test_scores_count_each_row_once(given: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def scored(*flags: str) -> str:
        out = shutil.copytree(trained, tmp_path / f"out{len(list(tmp_path.iterdir()))}")
        assert main(argv_of(given, out, "--do_eval=True", "--jit_compile=False", *flags)) == 0
        printed = capsys.readouterr().out
        text = (out / "eval_results.txt").read_text()
        assert f"***** Eval results *****\n{text}written: {out}\n" in printed
        assert [event.name for event in (out / "eval").iterdir()]
        return text

    whole = scored()
    assert [line.split(" = ")[0] for line in whole.splitlines()] == [
        "global_step",
        "loss",
        "masked_lm_accuracy",
        "masked_lm_loss",
        "next_sentence_accuracy",
        "next_sentence_loss",
    ]
    assert whole.startswith("global_step = 8\n")
    assert numbers(scored("--eval_batch_size=7")) == pytest.approx(numbers(whole), rel=1e-5)
    first = scored("--eval_batch_size=5", "--max_eval_steps=2")  # the ten rows of the first file
    assert numbers(scored(f"--input_file={given}/a-0.tfrecord")) == pytest.approx(numbers(first), rel=1e-5)
    assert numbers(first) != pytest.approx(numbers(whole), rel=1e-5)


def numbers(text: str) -> list[float]:
    return [float(line.split(" = ")[1]) for line in text.splitlines()]


def encoder_checkpoint(folder: Path, shape: BertConfig = SHAPE) -> Path:
    folder.mkdir()
    weights = initial_weights(encoder_shapes(shape), 0.3, seed=1)
    write_tf1(folder, Checkpoint(shape, weights, b"x\n", True, {"step": 77}))
    return folder / "bert_model.ckpt"


def test_init_checkpoint_gives_weights_heads_that_it_lacks_are_fresh_and_no_vocabulary_is_needed(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    initial, out = encoder_checkpoint(tmp_path / "initial"), tmp_path / "out"
    config = shutil.copy(given / "bert_config.json", tmp_path)  # no vocab.txt is beside it
    settings = "--do_train", "--do_eval", "--num_train_steps=3", "--learning_rate=1e-9", f"--bert_config_file={config}"
    assert main(argv_of(given, out, f"--init_checkpoint={initial}", *settings)) == 0
    said = capsys.readouterr().err
    assert "has no masked-LM head, no next-sentence head; fresh weights take its place" in said
    assert not (out / "vocab.txt").exists()
    reached = read_tf1(out, vocab_file=given / "vocab.txt").checkpoint
    assert reached.state["step"] == 3
    for name, weight in initial_weights(encoder_shapes(SHAPE), 0.3, seed=1).items():
        np.testing.assert_allclose(reached.weights[name], weight, atol=1e-7)


@pytest.mark.slow
def test_a_vocabulary_is_kept_only_if_it_is_the_models(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = shutil.copy(given / "bert_config.json", tmp_path)
    settings = f"--bert_config_file={config}", "--do_train", "--num_train_steps=2", "--jit_compile=False"
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES[:-1]) + "\n")
    assert main(argv_of(given, tmp_path / "other", *settings)) == 0
    assert "has 19 entries, but vocab_size in" in capsys.readouterr().err
    assert not (tmp_path / "other" / "vocab.txt").exists()
    assert main(argv_of(given, tmp_path / "given", *settings, f"--vocab_file={given}/vocab.txt")) == 0
    assert (tmp_path / "given" / "vocab.txt").read_text() == (given / "vocab.txt").read_text()


def test_an_init_checkpoint_can_be_scored(given: Path, trained: Path, tmp_path: Path) -> None:
    flags = f"--init_checkpoint={trained}/model.ckpt-8", "--do_eval", "--jit_compile=False"
    assert main(argv_of(given, tmp_path / "out", *flags)) == 0
    assert (tmp_path / "out" / "eval_results.txt").read_text().startswith("global_step = 0\n")
    assert not (tmp_path / "out" / "checkpoint").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "At least one of `do_train` or `do_eval` must be True."),
        (["--do_eval"], "OUT: holds no checkpoint to evaluate"),
        (["--do_train", "--input_file=GIVEN/none*"], "none*: no such file"),
        (["--do_train", "--input_file=,"], "input_file names no file"),
        (["--do_train", "--input_file=GIVEN/vocab.txt"], "not a TFRecord file"),
        (["--do_train", "--bert_config_file=GIVEN/none.json"], "none.json"),
        (["--do_train", "--max_seq_length=17"], "max_seq_length is 17, but the model has 16 positions"),
        (["--do_train", "--max_seq_length=16"], "max_seq_length is 12, the flag says 16"),
        (["--do_eval", "--input_file=GIVEN/long.tfrecord"], "max_seq_length is 16, the flag says 12"),
        (["--do_train", "--max_predictions_per_seq=20"], "max_predictions_per_seq is 2, the flag says 20"),
        (["--do_train", "--train_batch_size=21"], "a-0.tfrecord and 1 more: 20 examples are fewer than one batch"),
        (["--do_train", "--train_batch_size=5", "--gradient_accumulation_steps=2"], "not a multiple of"),
        (["--do_train", "--num_train_steps=1"], "num_warmup_steps is 2; it must not exceed num_train_steps, 1"),
        (["--do_train", "--max_eval_steps=0"], "max_eval_steps is 0"),
        (["--do_train", "--init_checkpoint=GIVEN/none"], "none.index is missing"),
        (["--do_train", "--init_checkpoint=OTHER"], "has shape [20, 4], its configuration asks for [20, 8]"),
        (["--do_train", "--vocab_file=GIVEN/bert_config.json"], "lacks [PAD]"),
        (
            ["--do_train", "--use_tpu=True", "--tpu_name=mine", "--num_tpu_cores=1"],
            "use_tpu is true, but JAX finds no TPU here, only cpu",
        ),
        (["--do_train", "--use_tpu=True", "--backend=tensorflow"], "TPUs are used by JAX"),
        (["--do_train", "--master=grpc://10.0.0.1:8470"], "leave it out and start this program where"),
        (["--do_train", "--devices=2"], "several devices share a batch on the jax backend only"),
        (["--do_train", "--output_dir=GIVEN/vocab.txt"], "a file is in the way"),
    ],
)
def test_bad_input_ends_with_2_and_leaves_nothing(
    given: Path, tmp_path: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    narrow = BertConfig(**{**vars(SHAPE), "hidden_size": 4, "num_attention_heads": 1})
    places = {"GIVEN": str(given), "OUT": str(out)}
    if "--init_checkpoint=OTHER" in flags:
        places["OTHER"] = str(encoder_checkpoint(tmp_path / "other", narrow))
    for short, place in places.items():
        flags = [flag.replace(short, place) for flag in flags]
        message = message.replace(short, place)
    assert main(argv_of(given, out, *flags)) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_ids_beyond_vocab_size_and_another_models_checkpoint_are_refused(
    given: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "bert_config.json"
    config.write_text(json.dumps(SHAPE.to_mapping() | {"vocab_size": 10}))
    out = tmp_path / "out"
    assert main(argv_of(given, out, "--do_train", f"--bert_config_file={config}")) == 2
    assert "but the vocabulary has 10 entries" in capsys.readouterr().err
    assert not out.exists()
    config.write_text(json.dumps(SHAPE.to_mapping() | {"intermediate_size": 4}))
    before = {path.name: path.stat().st_mtime_ns for path in trained.iterdir()}
    flags = "--do_train", f"--bert_config_file={config}", "--num_train_steps=20"
    assert main(argv_of(given, trained, *flags)) == 2
    said = capsys.readouterr().err
    assert "intermediate/dense/kernel has shape [8, 16], its configuration asks for [8, 4]" in said
    assert "damaged" not in said
    assert {path.name: path.stat().st_mtime_ns for path in trained.iterdir()} == before


@pytest.mark.golden
def test_the_scores_of_the_original(reference: Path, tmp_path: Path) -> None:
    """The original evaluated this checkpoint on the first 5 * 8 of 78 rows, so that none came twice."""
    out = tmp_path / "out"
    out.mkdir()
    for file in (reference / "tf1_checkpoint").iterdir():
        shutil.copyfile(file, out / file.name)
    flags = [
        f"--input_file={reference}/instances_plain.tfrecord",
        f"--bert_config_file={reference}/bert_config.json",
        f"--output_dir={out}",
        "--do_eval=True",
        "--max_eval_steps=5",
    ]
    assert main(["run_pretraining", *flags]) == 0
    ours, theirs = (
        dict(line.split(" = ") for line in (folder / name).read_text().splitlines())
        for folder, name in ((out, "eval_results.txt"), (reference, "pretraining_eval_results.txt"))
    )
    assert list(ours) == list(theirs)
    for name in ("global_step", "masked_lm_accuracy", "next_sentence_accuracy"):
        assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=1e-7)
    for name in ("masked_lm_loss", "next_sentence_loss"):
        assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=2e-6)
    # The original's is the mean of its five batches' losses, 6.037341; ours the sum of the two losses above.
    assert float(ours["loss"]) == pytest.approx(5.3632655 + 0.6737351, abs=4e-6)
