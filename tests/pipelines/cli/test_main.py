import argparse
import dataclasses
import io
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bertline.components.step_table import STEPS
from bertline.pipelines.cli.main import VERBS, main
from bertline.pipelines.cli.originals import EXTRACT_FEATURES, RUN_PRETRAINING
from bertline.pipelines.cli.verbs import FlagParser, describe_settings
from bertline.pipelines.run_settings import Run

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "want", "##want", "##ed", "wa", "un", "runn", "##ing", ","]


def test_help_names_every_verb_on_a_line_and_starts_nothing_heavy() -> None:
    program = (
        "import sys; from bertline.pipelines.cli.main import main;"
        "main(['--help']); main(['--version']); main(['runn']);"
        "heavy = 'tensorflow', 'keras', 'apache_beam', 'kfp', 'numpy', 'numba', 'rich', 'tqdm', 'yaml', 'tomllib';"
        "print([name for name in heavy if name in sys.modules])"
    )
    environment = os.environ | {"COLUMNS": "80"}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    *lines, version, loaded = ended.stdout.splitlines()
    assert loaded == "[]"
    assert re.fullmatch(r"bertline \d+\.\d+\.\d+", version)
    listed = [line.split()[0] for line in lines if re.match(r"  [a-z_]+ +[A-Z]", line)]
    assert listed == list(VERBS)
    assert max(map(len, lines)) <= 80
    assert 'unknown verb "runn"; did you mean run? known: run, lineage, ingest, split' in ended.stderr


def test_split_loads_neither_models_nor_ingest(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("A sentence of the text. Another one of it, which is longer.\n")
    assert main(["ingest", f"--text={tmp_path / 'text.txt'}", f"--out={tmp_path / 'documents'}"]) == 0
    program = (
        "import sys; from bertline.pipelines.cli.main import main; assert main(sys.argv[1:]) == 0;"
        "rooms = ('bertline.model', 'bertline.components.corpus.ingest');"
        "print([name for name in sys.modules if name.startswith(rooms)])"
    )
    argv = ["split", f"--documents={tmp_path / 'documents'}", f"--out={tmp_path / 'sentences'}"]
    shown = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


def test_a_model_that_is_not_there_is_refused_before_tensorflow_is_loaded(tmp_path: Path) -> None:
    program = (
        "import sys; from bertline.pipelines.cli.main import main;"
        "assert main(['inspect', sys.argv[1]]) == 2; print('numba' in sys.modules);"
        "assert main(['convert', *sys.argv[1:]]) == 2;"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    argv = [str(tmp_path / "missing"), str(tmp_path / "out")]
    ended = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True, check=True)
    assert ended.stderr.count("missing: no such model; give a bertline checkpoint") == 2
    assert ended.stdout == "False\n[]\n"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert re.search(r"\nexamples?:\n", capsys.readouterr().out)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_fits_the_terminal(verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (80, 100):
        monkeypatch.setenv("COLUMNS", str(width))
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        assert max(map(len, capsys.readouterr().out.splitlines())) <= width


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_flag_is_described_by_a_sentence_in_a_group(verb: str) -> None:
    parser = FlagParser()
    VERBS[verb].add_flags(parser)
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    for action in shown:
        text = (action.help or "").partition(" (default: %(shown_default)s)")[0]
        assert re.match(r"[A-Z[].*\.$", text), f"{action.dest}: {text}"
    general = {action.dest for action in parser._optionals._group_actions if action.help != argparse.SUPPRESS}
    assert general <= {"help", "config"} or verb in ("tokenize", "compile", "lineage")  # of few flags


@pytest.mark.parametrize("verb", ["pretrain", "prepare", "convert", "run", "extract_features", "run_pretraining"])
def test_a_setting_with_choices_shows_them_and_takes_no_other(verb: str) -> None:
    parser = FlagParser()
    VERBS[verb].add_flags(parser)
    metavars = {action.dest: action.metavar for action in parser._actions}
    settings = {
        "run": lambda: describe_settings(Run),
        "extract_features": EXTRACT_FEATURES.describe_settings,
        "run_pretraining": RUN_PRETRAINING.describe_settings,
    }.get(verb, lambda: describe_settings(STEPS[verb].config_class()))()
    chosen = [setting for setting in settings if setting.choices]
    assert len(chosen) >= 4
    for setting in chosen:
        assert metavars[setting.name] == "{" + ",".join(setting.choices) + "}"


@pytest.mark.parametrize("step", STEPS)
def test_choices_are_what_a_config_takes(step: str) -> None:
    cls = STEPS[step].config_class()
    for field in dataclasses.fields(cls):
        if choices := field.metadata.get("choices"):
            assert field.default in choices
            known = re.escape(", ".join(filter(None, choices)))
            with pytest.raises(ValueError, match=f'^{field.name} is "{choices[-1]}x"; did you mean .* known: {known}$'):
                cls(**{field.name: f"{choices[-1]}x"})


def test_unknown_verbs_and_flags_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretain"]) == 2
    assert 'unknown verb "pretain"' in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["split", "--documents=d", "--out=o", "--do_lower=False"])
    assert stopped.value.code == 2


def test_output_that_nobody_reads_any_more_ends_quietly(tmp_path: Path) -> None:
    vocab, lines = tmp_path / "vocab.txt", tmp_path / "lines.txt"
    vocab.write_text("\n".join(WORDS) + "\n")
    lines.write_text("unwanted running\n" * 200_000)
    command = f"{sys.executable} -m bertline tokenize --vocab={vocab} < {lines} | head -1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert ended.stdout == "[9, 6, 7, 10, 11]\n141\n"
    assert ended.stderr == ""


def test_tokenize_reads_lines_or_json_strings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(WORDS) + "\n")

    def tokenize(text: str, *flags: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return main(["tokenize", f"--vocab={vocab}", *flags]), capsys.readouterr().out

    assert tokenize("UNwant\u00e9d,running\n\n") == (0, "[9, 6, 7, 12, 10, 11]\n[]\n")
    assert tokenize("UNwanted\n", "--cased") == (0, "[1]\n")
    assert tokenize(json.dumps("unwanted\nrunning") + "\n", "--json") == (0, "[9, 6, 7, 10, 11]\n")
    assert tokenize("unwanted\n", "--json")[0] == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["ingest", "--out=OUT"], "nothing to read"),
        (["ingest", "--dump=missing.xml", "--out=OUT"], "missing.xml: no such file"),
        (["ingest", "--books=none/*.txt", "--out=OUT"], "no file matches"),
        (["split", "--documents=missing", "--out=OUT"], "missing: no such artifact"),
        (["prepare", "--sentences=HERE", "--vocab=v.txt", "--out=OUT"], "not an artifact"),
        (["pretrain", "--records=missing", "--vocab=v.txt", "--out=OUT"], "missing: no such artifact"),
        (["evaluate", "--checkpoint=missing", "--records=missing", "--out=OUT"], "missing: no such artifact"),
        (["lineage", "--store=HERE", "--out=OUT"], "no artifacts here"),
        (["run", "tiny", "--dump=missing.xml", "--out=OUT"], "missing.xml: no such file"),
        (["run", "tiny", "--model=huge", "--out=OUT"], 'model "huge" is neither a known size nor a file'),
        (["run", "tiny", "--batch=0", "--out=OUT"], "batch is 0"),
        (["run", "tiny", "--out=gs://"], "names no bucket; give gs://BUCKET or gs://BUCKET/FOLDER"),
    ],
)
def test_bad_input_ends_with_2_a_message_and_no_output(
    tmp_path: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    places = {"OUT": str(out), "HERE": str(tmp_path)}
    for short, place in places.items():
        argv = [argument.replace(short, place) for argument in argv]
    assert main(argv) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_released_vocabulary_is_checked_and_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    released, out = tmp_path / "released.txt", tmp_path / "vocab.txt"
    released.write_text("\n".join(WORDS) + "\n")
    assert main(["vocab", f"--released={released}", f"--out={out}"]) == 0
    assert f"\nwritten: {out} (what it is made of: {out}.artifact)\n" in capsys.readouterr().out
    assert out.read_bytes() == released.read_bytes()
    released.write_text("word\n")
    assert main(["vocab", f"--released={released}", f"--out={tmp_path / 'other.txt'}"]) == 2
    assert "[PAD]" in capsys.readouterr().err
    assert main(["vocab", f"--out={tmp_path / 'other.txt'}"]) == 2
    assert "one of these is needed: sentences (" in capsys.readouterr().err
    assert main(["vocab", f"--released={released}", f"--out={tmp_path}"]) == 2
    assert "is a folder; give the file to write" in capsys.readouterr().err


def test_a_vocabulary_that_does_not_match_the_model_is_refused_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocab, config = tmp_path / "vocab.txt", tmp_path / "bert_config.json"
    vocab.write_text("\n".join(WORDS) + "\n")
    config.write_text('{"vocab_size": 30522, "hidden_size": 128, "num_attention_heads": 2}')
    out = tmp_path / "out"
    assert main(["run", "tiny", f"--vocab={vocab}", f"--model={config}", f"--out={out}"]) == 2
    assert "vocab_size is 30522, but the vocabulary has 13 entries" in capsys.readouterr().err
    vocab.write_text("\n".join(word for word in WORDS if word != "[MASK]") + "\n")
    assert main(["run", "tiny", f"--vocab={vocab}", f"--out={out}"]) == 2
    assert "[MASK]" in capsys.readouterr().err
    assert not out.exists()


def test_a_file_system_that_takes_no_more_ends_with_2_and_leaves_nothing(tmp_path: Path) -> None:
    """The limit on a file's size makes the kernel refuse a write, as a full disk does."""
    text = tmp_path / "long.txt"
    text.write_text(
        "".join(f"Sentence number {number} of a long text, with {number * 7919}.\n\n" for number in range(9000))
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    ended = subprocess.run(
        [sys.executable, "-m", "bertline", "ingest", f"--text={text}", f"--out={tmp_path / 'out'}"],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "File too large" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["long.txt"]


def test_ctrl_c_while_the_first_modules_are_loaded_leaves_no_traceback() -> None:
    program = """
import sys
class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == "bertline.preemption":
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
from bertline.__main__ import main
sys.exit(main())
"""
    ended = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "bertline: ended by Ctrl-C\n")
