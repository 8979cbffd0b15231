"""The verb run: flags and files that reach every setting of every step, and the file of all settings."""

import dataclasses
import itertools
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from bertline.pipelines.cli import run_verb
from bertline.pipelines.cli.main import main
from bertline.pipelines.cli.run_verb import WITH_OWN_TEXT, format_config, read_run
from bertline.pipelines.cli.verbs import FlagParser, with_underscores
from bertline.pipelines.placing.settings import read_resource_table
from bertline.pipelines.recipes import EXAMPLES, RECIPES, RUNS, recipe
from bertline.pipelines.run_local import check
from bertline.pipelines.run_settings import Run, pipeline_arguments
from bertline.pipelines.step_settings import (
    HELDOUT,
    RECORDS,
    RUN_STEPS,
    STAGES,
    STEPS_OF_NAME,
    config_class,
    config_class_of_name,
)

Parsed = Callable[..., Run]


@pytest.fixture(scope="module")
def run_from() -> Parsed:
    """The run of a command line after `bertline run`."""
    parser = FlagParser(allow_abbrev=False)
    run_verb.RUN.add_flags(parser)
    return lambda *argv: read_run(parser.parse_args(with_underscores(argv)))


def arguments_from(run_from: Parsed, *argv: str) -> dict[str, Any]:
    return pipeline_arguments(run_from(*argv))


def other_value(default: Any) -> Any:
    if isinstance(default, bool):
        return not default
    return "other" if isinstance(default, str) else default + 1


# What the run itself decides, with the reason that a user is told.
REFUSED = {
    ("prepare", "part"): "a run makes records to train on",
    ("prepare", "max_seq_length"): "lengths 128 and 512",
    ("pretrain", "max_seq_length"): "lengths 128 and 512",
    ("pretrain", "model"): "set --model",
    ("pretrain", "num_train_steps"): "steps_128 and steps_512",
    ("pretrain", "stop_at_step"): "steps_128 and steps_512",
    ("pretrain", "host"): "the cluster says it",
    ("pretrain", "coordinator"): "the cluster says it",
    ("pretrain_512", "initialize"): "only the first stage starts from a released model",
}


@pytest.mark.parametrize("name", STEPS_OF_NAME)
def test_every_setting_of_every_step_is_reached_by_a_flag_and_by_a_table(
    name: str, run_from: Parsed, tmp_path: Path
) -> None:
    verb = {step: group for group in ("prepare", "heldout", "pretrain") for step in STEPS_OF_NAME[group]}.get(
        name, name
    )
    group = "prepare" if verb == "heldout" else verb
    for field in dataclasses.fields(config_class_of_name(name)):
        value = other_value(field.default)
        flag = f"--{name}.{field.name}={value}"
        reason = REFUSED.get((group, field.name)) or REFUSED.get((name, field.name))
        if reason:
            with pytest.raises(ValueError, match=rf"^--{name}\.{field.name}: .*{reason}"):
                run_from("tiny", flag)
            continue
        (setting,) = run_from("tiny", flag).steps
        arguments = pipeline_arguments(run_from("tiny", flag))
        assert [arguments[step][field.name] for step in setting.steps] == [value] * len(setting.steps), flag
        reached = set(STEPS_OF_NAME[name])
        if name == "prepare" and field.name in ("masking", "dupe_factor", "length_bins"):
            reached = set(RECORDS)
        if (name, field.name) == ("pretrain", "initialize"):
            reached = {"pretrain_128"}
        assert set(setting.steps) == reached, flag


def test_short_names_are_under_tables_and_tables_under_flags_and_general_ones_under_specific_ones(
    run_from: Parsed, tmp_path: Path
) -> None:
    def batches(*argv: str) -> list[int]:
        return [arguments_from(run_from, "tiny", *argv)[stage]["train_batch_size"] for stage in STAGES]

    file = tmp_path / "settings.toml"
    file.write_text("batch = 40\n[pretrain_512]\ntrain_batch_size = 3\n[pretrain]\ntrain_batch_size = 2\n")
    assert batches("--batch=40") == [40, 10]
    assert batches(f"--config={file}") == [2, 3]
    assert batches(f"--config={file}", "--batch=50") == [2, 3]
    assert batches(f"--config={file}", "--pretrain.train-batch-size=4") == [4, 4]
    assert batches("--pretrain_128.train_batch_size=5", f"--config={file}", "--pretrain.train_batch_size=4") == [5, 4]


def test_json_files_hold_objects_for_tables(run_from: Parsed, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"model": "mini", "vocab": {"min_count": 5}, "tasks": ["sst2=S"], "prepare": {"max_ngram": 3}}')
    run = run_from("tiny", f"--config={file}")
    arguments = pipeline_arguments(run)
    assert (run.model, run.tasks, arguments["vocabulary"]["min_count"]) == ("mini", ("sst2=S",), 5)
    assert [arguments[step]["max_ngram"] for step in (*RECORDS, *HELDOUT)] == [3, 3, 3, 3]


def test_what_follows_from_other_settings_follows_from_those_given(run_from: Parsed) -> None:
    flags = "--prepare.masked_lm_prob=0.2", "--prepare.masking=dynamic", "--pretrain.train_batch_size=64"
    arguments = arguments_from(run_from, "tiny", *flags, "--pretrain.eval_every_steps=10")
    predictions = [arguments[step]["max_predictions_per_seq"] for step in (*RECORDS, *HELDOUT)]
    assert predictions == [26, 103, 26, 103]
    assert [arguments[step]["dupe_factor"] for step in RECORDS] == [1, 1]
    assert [arguments[step]["masking"] for step in HELDOUT] == ["static", "static"]
    assert arguments["pretrain_128"]["eval_batch_size"] == 64
    assert arguments["pretrain_128"]["max_eval_examples"] == 10 * 64 * 3 // 20


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--prepar.seed=3", "did you mean prepare?"),
        ("--prepar.seed=3", "steps: vocab, prepare, pretrain, heldout, ingest"),
        ("--prepare.masked_lm_probb=3", "did you mean masked_lm_prob?"),
        ("--prepare.masked_lm_probb=3", "settings of prepare: max_seq_length, short_seq_prob"),
        ("--pretrain_521.seed=3", "did you mean pretrain_512?"),
        ("--batc=3", "did you mean --batch?"),
        ("--prepare.seed=many", "--prepare.seed: seed must be a whole number, not 'many'"),
        (
            "--prepare.masked_lm_prob=1.2",
            "prepare_128: masked_lm_prob is 1.2; it must lie between 0 and 1 (--prepare.mas",
        ),
        (
            "--pretrain_512.devices=3",
            "not a multiple of gradient_accumulation_steps * devices, 3; give one that is (--pret",
        ),
        (
            "--finetune.num_train_epochs=0",
            "finetune: num_train_epochs is 0.0; it must be greater than 0 (--finetune.num",
        ),
        ("--pretrain_512.learning_rate=1", "the stages of a model share it: set --pretrain.learning_rate"),
        ("--heldout.heldout_share=0.5", "set --prepare.heldout_share"),
        ("--vocab.do_lower_case=false", "vocabulary, records and model are of one case: set --do_lower_case"),
        ("--pretrain.initialize=pooler", "initialize is for a released model (initial), and none is given"),
        ("--task=cola=x", 'unknown task "cola"; known: mrpc, sst2'),
    ],
)
def test_bad_settings_end_with_2_before_any_work(
    flag: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        code = main(["run", "tiny", f"--out={tmp_path / 'out'}", flag])
    except SystemExit as stopped:  # argparse's own way
        code = stopped.code  # type: ignore[assignment]
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--warmup_share=2", "warmup_share is 2.0; it must lie between 0 and 1"),
        ("--devices=0", "pretrain_128: devices is 0; it must be at least 1"),
        ("--vocab_size=3", "vocabulary: vocab_size is 3; it must be at least 6"),
        ("--finetune_epochs=0", "finetune: num_train_epochs is 0.0; it must be greater than 0"),
        ("--vocab.do_lower_case=false", "vocabulary, records and model are of one case: set --do_lower_case"),
        ("--initial=released", "released: the records need its vocabulary: --vocab"),
        ("--model=huge", 'model "huge" is neither a known size nor a file'),
    ],
)
def test_settings_that_would_be_refused_are_not_printed(
    flag: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "tiny", flag, "--print_config"]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[prepar]\nseed = 3",
            r'settings.toml: unknown step "prepar"; did you mean prepare\? known: vocab, prepare, ',
        ),
        (
            "[prepare]\nsead = 3",
            r'settings.toml: \[prepare\] unknown setting "sead"; did you mean seed\? known: max_seq_length, ',
        ),
        ("[prepare_128]\nseed = 1.5", r"settings.toml: \[prepare_128\] seed: seed must be a whole number, not 1.5"),
        ("[pretrain]\nhost = 1", r"settings.toml: \[pretrain\] host: the cluster says it; set --pretrain.hosts"),
        ("baatch = 3", r"settings.toml: unknown run keys: baatch; did you mean batch\? known: dump, "),
        ('tasks = "mrpc=x"', "settings.toml: tasks must be a list of texts, not 'mrpc=x'"),
        ("prepare = 3", "settings.toml: unknown run keys: prepare"),
    ],
)
def test_bad_files_are_refused_by_what_is_wrong_in_them(
    text: str, message: str, run_from: Parsed, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        run_from("tiny", f"--config={file}")


def test_tasks_given_take_the_place_of_the_examples(
    run_from: Parsed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('tasks = ["mrpc=in the file"]')
    assert run_from("tiny", "--task", "mrpc=a=b c", "--task=sst2=~/d").tasks == ("mrpc=a=b c", f"sst2={Path.home()}/d")
    assert run_from("tiny", f"--config={file}").tasks == ("mrpc=in the file",)
    assert run_from("tiny", f"--config={file}", "--task=sst2=d").tasks == ("sst2=d",)
    assert run_from("tiny", "--task=").tasks == ()
    assert run_from("tiny").tasks == RUNS["tiny"].tasks
    assert capsys.readouterr().err == ""


def test_the_old_spelling_of_tasks_works_and_says_so(
    run_from: Parsed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('sentences = ""\n')
    assert run_from("tiny", "--pairs=P").tasks == ("mrpc=P", RUNS["tiny"].tasks[1])
    assert capsys.readouterr().err == "--pairs=P is now --task mrpc=P\n"
    assert run_from("budget", f"--config={file}", "--pairs=P", "--model=tiny").tasks == ("mrpc=P",)


def test_a_task_in_both_spellings_is_refused_but_a_flag_wins_over_a_files_tasks(
    run_from: Parsed, tmp_path: Path
) -> None:
    old, new, both = (tmp_path / f"{name}.toml" for name in ("old", "new", "both"))
    old.write_text('pairs = "x"\n')
    new.write_text('tasks = ["mrpc=y"]\n')
    both.write_text('pairs = "x"\ntasks = ["mrpc=y"]\n')
    for argv in (["--pairs=x", "--task=mrpc=y"], [f"--config={old}", "--task=mrpc=y"], [f"--config={both}"]):
        with pytest.raises(ValueError, match="--pairs=x and --task mrpc=y are of one task; leave --pairs out"):
            run_from("tiny", *argv)
    assert run_from("tiny", f"--config={new}", "--pairs=x").tasks == ("mrpc=x",)
    assert run_from("tiny", "--task=sst2=y", "--pairs=x").tasks == ("sst2=y", "mrpc=x")


def test_text_of_ones_own_replaces_the_examples_wherever_it_is_named(run_from: Parsed, tmp_path: Path) -> None:
    config = tmp_path / "settings.json"
    config.write_text('{"jsonl": "mine.jsonl", "model": "mini"}')
    for argv in (["--jsonl=mine.jsonl", "--model=mini"], [f"--config={config}"]):
        run = run_from("tiny", *argv)
        assert (run.jsonl, run.books, run.dump, run.vocab_size, run.model) == ("mine.jsonl", "", "", 30000, "mini")
        assert run.tasks == ()  # the example's are English
    assert run_from("tiny", "--jsonl=mine.jsonl", "--task=mrpc=M").tasks == ("mrpc=M",)
    assert run_from("budget", f"--config={config}") == dataclasses.replace(recipe("budget", "mini"), jsonl="mine.jsonl")


def test_the_home_folder_is_found_in_quotes_after_a_flag_and_in_a_file(run_from: Parsed, tmp_path: Path) -> None:
    home, config = Path.home(), tmp_path / "settings.toml"
    config.write_text('books = "~/shelf"\ntasks = ["sst2=~/s"]\nvocab = "a~/b"\n')
    run = run_from("tiny", "--dump=~/a.xml,~/b.xml", "--model", "~/bert_config.json", f"--config={config}")
    assert (run.dump, run.model) == (f"{home}/a.xml,{home}/b.xml", f"{home}/bert_config.json")
    assert (run.books, run.tasks, run.vocab) == (f"{home}/shelf", (f"sst2={home}/s",), "a~/b")


def test_the_example_is_found_from_any_folder(
    run_from: Parsed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_from("tiny")
    assert [Path(path).name for path in (run.dump, run.books)] == ["encyclopedia.xml", "books"]
    check(run, tmp_path / "out")


ODD = 'a "quoted" \\ path,\u0001\u007f \u00e9\u4e2d\U0001f600 = [x] # y'


@pytest.mark.parametrize("name", [*RUNS, *RECIPES])
def test_the_printed_file_runs_the_same_again(
    name: str, run_from: Parsed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (f"--dump={ODD}", f"--task=mrpc={ODD}", "--steps_128=7", "--pretrain_512.train_batch_size=3")
    flags += ("--prepare.masked_lm_prob=0.2", "--heldout.masking=dynamic", f"--prepare.beam_options={ODD}")
    for given in ((), flags):
        assert main(["run", name, "--model=mini", *given, "--print_config"]) == 0
        file = tmp_path / f"{len(given)}.toml"
        file.write_text(capsys.readouterr().out, encoding="utf-8")
        wanted = run_from(name, "--model=mini", *given)
        again = run_from(name, f"--config={file}")
        assert pipeline_arguments(again) == pipeline_arguments(wanted)
        assert dataclasses.replace(again, steps=()) == dataclasses.replace(wanted, steps=())


def test_the_printed_file_shows_every_setting_and_is_changed_by_its_short_names(
    run_from: Parsed, tmp_path: Path
) -> None:
    file = tmp_path / "run.toml"
    file.write_text("\n".join(format_config("tiny", run_from("tiny"))), encoding="utf-8")
    shown = tomllib.loads(re.sub(r"(?m)^#(?=\w)", "", file.read_text(encoding="utf-8")))
    arguments = pipeline_arguments(run_from("tiny"))
    assert {step: shown[step] for step in RUN_STEPS} == {step: arguments[step] for step in RUN_STEPS}
    assert set(shown) == {*RUN_STEPS, *(field.name for field in dataclasses.fields(Run) if field.name != "steps")}
    assert arguments_from(run_from, "tiny", f"--config={file}", "--batch=8", "--steps_128=5") == arguments_from(
        run_from, "tiny", "--batch=8", "--steps_128=5"
    )


@pytest.mark.parametrize("name", [*RUNS, *RECIPES])
def test_the_printed_file_says_what_each_setting_is_in_groups_once(name: str, run_from: Parsed) -> None:
    lines = "\n".join(format_config(name, run_from(name))).splitlines()
    assert max(len(line) for line in lines if line.startswith("# ")) <= 100
    text = "\n".join(lines)
    assert text.startswith(f"# All settings of `bertline run {name}`.")
    titles = re.findall(r"(?m)^# === (.*) ===$", text)
    assert titles[:4] == ["the text", "the vocabulary", "the model", "the schedule"]
    assert "# Training steps at length 128.\nsteps_128 = " in text
    assert "# The optimizer; bert_adam is the original's. One of bert_adam, adamw, lamb.\noptimizer = " in text
    assert str(EXAMPLES) not in text
    assert ('\n#books = "examples/books"  # the example\'s\n' in text) is (name in RUNS)
    assert text.count("# Share of masked tokens; Devlin et al. 2018, 3.1.\n") == 1
    assert "[heldout_512]\n# What these are is said in [prepare_128].\n#max_seq_length = 512" in text
    for before, line in itertools.pairwise(lines[: lines.index("[prepare_512]")]):
        assert before.startswith("# ") or not re.match(r"#?\w+ = ", line), line


def test_the_settings_that_pages_show_are_known(run_from: Parsed, tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    pages = [file.read_text(encoding="utf-8") for file in (root / "README.md", *(root / "docs").rglob("*.md"))]
    file = tmp_path / "settings.toml"
    shown = [text for page in pages for text in re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)]
    (of_tasks,) = (text for text in shown if "[resources" in text)  # what a cluster gives them
    assert read_resource_table(tomllib.loads(of_tasks)["resources"], "cloud.md", typed=True)
    (of_run,) = (text for text in shown if text != of_tasks)
    file.write_text(of_run, encoding="utf-8")
    pages = [re.sub(r"make infra-check ARGS=\S+|`ARGS=--(terraform|engine)`", "", page) for page in pages]
    given = [quoted or bare for page in pages for quoted, bare in re.findall(r'ARGS=(?:"([^"]*)"|(--[^\s`]+))', page)]
    assert len(given) >= 5
    for arguments in given:
        run_from("tiny", *shlex.split(arguments.replace("settings.toml", str(file))))
    arguments = arguments_from(run_from, "tiny", f"--config={file}")
    assert [arguments[stage]["train_batch_size"] for stage in STAGES] == [16, 16]
    assert [arguments[step]["masked_lm_prob"] for step in (*RECORDS, *HELDOUT)] == [0.2] * 4


def test_help_names_the_steps_and_shows_no_flag_of_a_single_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    shown = capsys.readouterr().out
    assert ", ".join(STEPS_OF_NAME) in " ".join(shown.split())
    assert "--evaluate." not in shown and "--pairs" not in shown
    assert "bertline run tiny --config settings.toml" in shown


@pytest.mark.parametrize(
    ("argv", "defaults"),
    [
        (["tiny"], {"model": "tiny", "steps_128": 450, "batch": 16, "vocab_size": f"3000; 30000 {WITH_OWN_TEXT}"}),
        (
            ["base"],
            {
                "model": "base",
                "steps_128": RUNS["base"].steps_128,
                "batch": 8,
                "heldout_share": f"0.15; 0.05 {WITH_OWN_TEXT}",
            },
        ),
        (["base", "--text=mine.txt"], {"vocab_size": 30000, "dump": "none"}),
        (["budget"], {"model": "base", "batch": 256, "learning_rate": 2e-4, "dropout": 0.0, "masking": "dynamic"}),
        (["budget", "--model=mini"], {"model": "mini", "batch": 32, "learning_rate": 1e-3}),
        ([], {"model": "that of NAME", "steps_128": "that of NAME", "num_workers": 1, "devices": 1}),
    ],
)
def test_help_shows_the_defaults_of_the_named_run(
    argv: list[str], defaults: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["run", *argv, "--help"])
    shown = dict(re.findall(r"--(\w+) (?:(?!--\w).)*?\(default: ([^()]*)\)", " ".join(capsys.readouterr().out.split())))
    assert {name: shown[name] for name in defaults} == {name: str(value) for name, value in defaults.items()}


def test_every_step_of_the_pipeline_has_scalar_settings() -> None:
    for step in RUN_STEPS:
        assert set(get_type_hints(config_class(step)).values()) <= {bool, int, float, str}
