"""What a step declares of itself, and the one way in which every step's artifact is made from that."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Any

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
from bertline.components.store.folder import SCHEME
from bertline.components.store.manifests import MANIFEST, read_manifest
from bertline.preemption import ended_by_signals
from bertline.settings import name_backend

# What an input may be if it is not an artifact of a certain kind:
VOCABULARY = "vocab.txt"  # such a file, or a folder that holds one: a vocabulary artifact, a checkpoint
FILE = "file"
MODEL = "model"  # of any format, ours or another's
TEXT = "text"  # a word, or patterns of file names: not a path
# Names that have another meaning among a verb's flags, the arguments of run, or those of a KFP component.
TAKEN = frozenset(
    (
        *("out", "config", "help"),
        *("work", "log_dir", "digests", "hosts"),
        *("store", "run", "name", "metrics", "inputs", "perform_step"),
    )
)


@dataclass(frozen=True)
class Input:
    """An input of a step; its name is the verb's flag, the KFP argument and the argument of the step's run."""

    wanted: str  # one of the four above, or the kind of an artifact ("records" takes records_128, too)
    help: str
    optional: bool = False
    instead_of: str = ""  # the input that does not count where this one is given
    recorded_as: str = ""  # its name in manifests, if that is another
    shown_as: str = "PATH"  # in help, what is given for it
    read: str = ""  # "module:function" that reads it when run asks for it; only then does its code decide bytes


@dataclass(frozen=True)
class Step:
    """The one declaration of a step; "module:name" is loaded when it is needed, so that no step loads another's code.

    From it come the verb of the command line, the published artifact, the KFP component, and its name in messages.
    """

    name: str  # the verb, and the step in manifests
    summary: str
    example: str
    inputs: Mapping[str, Input]
    config: str  # "module:Class", a frozen dataclass: flags, JSON and KFP parameter are derived from it
    run: str  # "module:function", called as run(out=folder, config=config, **inputs); it returns counts
    kind: str  # of the artifact; it may name settings and TEXT inputs: "checkpoint_{config.max_seq_length}"
    output: str  # what KFP's pages call the artifact
    code: tuple[str, ...] = ()  # modules that decide the bytes, besides that of run and what it imports
    one_of: tuple[str, ...] = ()  # inputs of which at least one must be given
    requires: tuple[str, ...] = ()  # "module:require_...", called with the inputs that are given and `config`
    sources: str = ""  # "module:function", called with the TEXT inputs: name -> the files that they mean
    in_place: str = ""  # "module:function", called with the config: inputs that workers elsewhere read where they lie
    resumes: bool = False  # run gets `work`, a folder that survives a kill, for just these settings and inputs
    trains: bool = False  # run gets `work`, `log_dir` and the `digests` that a snapshot must share
    shared: bool = False  # a training that several hosts may share: run gets `hosts`
    scores: bool = False  # the counts are scores, which KFP's pages show as metrics
    label: str = ""  # of the artifact, where its kind is that of others, too; inputs that it names are their kinds
    only_file: str = ""  # the verb's --out is this one file; the artifact lies beside it

    def __post_init__(self) -> None:
        """Refuse names that cannot be, and a TEXT input that would leave no trace in the artifact's identity."""
        for name in (self.name, self.output, *self.inputs):
            if not name.isidentifier() or iskeyword(name) or name in TAKEN:
                raise ValueError(f'step {self.name}: "{name}" cannot name a step, an input or an output; take another')
        if self.output in self.inputs:
            raise ValueError(f"step {self.name}: an input and the output are called {self.output}; rename one")
        for name, each in self.inputs.items():
            if each.wanted == TEXT and not self.sources and f"{{{name}}}" not in self.kind:
                raise ValueError(f"step {self.name}: {name} decides bytes; name it in kind, or declare sources")

    def config_class(self) -> type[Any]:
        """The dataclass of the step's settings."""
        return load(self.config)  # type: ignore[no-any-return]

    def list_modules(self, given: Iterable[str]) -> list[str]:
        """The modules whose code decides what the step makes of the inputs `given`."""
        readers = [self.inputs[name].read for name in given if self.inputs[name].read]
        return [reference.partition(":")[0] for reference in (self.run, *self.code, *readers)]

    def select_texts_of_kind(self, given: Iterable[str]) -> list[str]:
        """Those of the inputs `given` that the artifact's kind names: the task of a fine-tuning."""
        return [name for name in given if f"{{{name}}}" in self.kind]

    def select_inputs(self, inputs: Mapping[str, str | Path | None]) -> dict[str, Any]:
        """The inputs that count, in the declared order: paths, and text as it is; ValueError for a missing one."""
        values = {name: inputs.get(name) for name in self.inputs}
        left_out = {self.inputs[name].instead_of for name, value in values.items() if value}
        for name, each in self.inputs.items():
            if not (values[name] or each.optional):
                raise ValueError(f"step {self.name}: {name} is missing; give {each.help}")
        if self.one_of and not any(values[name] for name in self.one_of):
            wanted = ", ".join(f"{name} ({self.inputs[name].help})" for name in self.one_of)
            raise ValueError(f"step {self.name}: one of these is needed: {wanted}")
        return {
            name: value if self.inputs[name].wanted == TEXT else Path(value)
            for name, value in values.items()
            if value and name not in left_out
        }


def load(reference: str) -> Any:
    """What "module:name" stands for."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def make(
    step: Step, out: Path | Store, config: Any, inputs: Mapping[str, str | Path | None], **callbacks: Any
) -> Artifact:
    """Make `out` (or its place in a store) what the step makes of its inputs; an artifact made before is kept.

    `callbacks` go to the step's run as they are. Raises ValueError and OSError for inputs that the step refuses.
    """
    config, given = name_backend(config), step.select_inputs(_bring_inputs(inputs))
    provenance = describe_making(step, config, given)
    arguments = {name: _prepare_argument(each, given.get(name)) for name, each in step.inputs.items()} | callbacks

    def write(folder: Path, work: Path, **further: Any) -> Counts:
        if step.resumes:
            further["work"] = work / provenance.fingerprint()
        if step.trains:
            further |= {"work": work, "log_dir": work.with_suffix(".tensorboard"), "digests": provenance.identity()}
        counts: Counts = load(step.run)(out=folder, config=config, **arguments, **further)
        return counts

    with ended_by_signals(describe_kept=_describer_of_kept(step, work_folder(place_of(out, provenance)))):
        if step.shared and config.hosts > 1:
            return _make_together(out, provenance, write)
        return publish(out, provenance, write)


def _bring_inputs(inputs: Mapping[str, str | Path | None]) -> dict[str, str | Path | None]:
    """The inputs, those that lie in buckets on this machine."""
    if not any(isinstance(each, str) and SCHEME in each for each in inputs.values()):
        return dict(inputs)
    from bertline.components.store.inputs import bring

    return {name: bring(each) if isinstance(each, str) else each for name, each in inputs.items()}


def _describer_of_kept(step: Step, work: Path) -> Callable[[], str]:
    """What says, when a signal has ended the step, what the same command finds; all that it needs is loaded here."""
    if step.trains:
        from bertline.model.training.snapshots import snapshot_steps

        def describe_training() -> str:
            newest = max(snapshot_steps(work), default=0)
            return (
                f"the same command goes on from step {newest:,}" if newest else "the same command begins at the start"
            )

        return describe_training

    def describe() -> str:
        if step.resumes and work.exists():
            return "the same command goes on with what is not made yet"
        return "nothing is left of it, the same command begins again"

    return describe


def describe_making(step: Step, config: Any, given: Mapping[str, Any]) -> Provenance:
    """The provenance of what the step would make of the inputs `given`, after they are seen to be what is wanted."""
    recorded: dict[str, Sequence[Path]] = {}
    for name, value in given.items():
        each = step.inputs[name]
        if each.wanted != TEXT:
            try:
                recorded[each.recorded_as or name] = _list_files(each.wanted, value)
            except ValueError as error:
                raise ValueError(f"{error}; {name} takes {each.help}") from error
    if step.sources:
        recorded |= load(step.sources)(**{name: given[name] for name in given if step.inputs[name].wanted == TEXT})
    for check in step.requires:
        load(check)(**given, config=config)
    named = {name: read_manifest(value)["kind"] for name, value in given.items() if f"{{{name}}}" in step.label}
    return Provenance(
        step.kind.format(config=config, **given),
        step.name,
        recorded,
        config,
        step.list_modules(given),
        in_place=load(step.in_place)(config) if step.in_place else (),
        label=step.label.format(**{name: kind.removeprefix(f"{name}_") for name, kind in named.items()}),
        subject="_".join(given[name] for name in step.select_texts_of_kind(given)),
    )


def vocab_file(vocab: Path) -> Path:
    """`vocab` itself, or the vocab.txt inside a vocabulary artifact or a checkpoint."""
    return vocab / VOCABULARY if vocab.is_dir() else vocab


def require_artifact(path: Path, kind: str) -> None:
    """Refuse what is not a whole artifact of this kind."""
    try:
        read_manifest(path, kind)
    except (FileNotFoundError, ValueError) as error:
        if kind == "checkpoint":
            _advise_on_model(path, error)
        raise


def _advise_on_model(path: Path, error: Exception) -> None:
    """Raise an error that says more of best weights that are not there, or of a model that is no checkpoint."""
    from bertline.model.formats.detect import list_model_files
    from bertline.model.training.best import BEST_FILE, BEST_FOLDER

    if path.name == BEST_FOLDER and (path.parent / BEST_FILE).is_file():
        raise FileNotFoundError(f"{path}: the last weights are the best; give {path.parent}") from error
    try:
        list_model_files(path)
    except (FileNotFoundError, ValueError):
        return
    raise ValueError(f'{error}; "bertline convert {path} CHECKPOINT" makes a checkpoint of this model') from error


def _list_files(wanted: str, path: Path) -> list[Path]:
    """The artifact or the files by which an input is recorded."""
    if wanted == MODEL and not (path / MANIFEST).is_file():
        from bertline.model.formats.detect import list_model_files

        return list_model_files(path)
    if wanted == FILE and path.is_dir():
        raise ValueError(f"{path}: a folder, not a file")
    if wanted not in (VOCABULARY, FILE, MODEL):
        require_artifact(path, wanted)
    return [path]


def _prepare_argument(each: Input, value: Any) -> Any:
    """What run is given for an input."""
    if value is None:
        return None
    if each.read:
        return partial(load(each.read), value)
    return vocab_file(value) if each.wanted == VOCABULARY else value


def _make_together(out: Path | Store, provenance: Provenance, write: Callable[..., Counts]) -> Artifact:
    """What the first of several hosts publishes; `write` runs on all of them. JAX's service tells them of SIGTERM."""
    from bertline.model.training.backends.hosts import join_hosts

    with join_hosts(provenance.config) as hosts:
        hosts.agree(provenance.facts())
        made = find(out, provenance)
        hosts.agree({"the artifact": "missing" if made is None else "finished"})
        if made is None:
            made = _train_together(hosts, out, provenance, write)
        return replace(made, is_noted=hosts.writes)


def _train_together(hosts: Any, out: Path | Store, provenance: Provenance, write: Callable[..., Counts]) -> Artifact:
    place = place_of(out, provenance)
    if isinstance(out, Store):
        out.gather(provenance)

    def train(folder: Path, work: Path) -> Counts:
        if isinstance(out, Store) and not out.is_shared:
            left = sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())
            hosts.agree({"what an interrupted training has left": left})
        else:
            hosts.share(work)
        return write(folder, work, hosts=hosts)

    if hosts.writes:
        made = publish(out, provenance, train)
        hosts.meet("published")
        return made
    train(place, work_folder(place))
    hosts.meet("published")
    found = find(out, provenance)
    assert found is not None, "the first host has published it"
    return replace(found, reused=False)
