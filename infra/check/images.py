"""The images: every target is built and named alike everywhere, nothing in them moves, what they copy is there.

Read as text, so that this check needs no tools.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from infra.check.finding import Finding, line_of, list_manifests, read, read_lock

DOCKERFILE = "infra/docker/Dockerfile"
CLOUDBUILD = "infra/cloudbuild.yaml"
OUTPUTS = "infra/terraform/outputs.tf"
STEPS = "components/steps.py"
LAPTOP = "infra/local/kubeflow.sh"
BUILT = ("compile", "cpu", "accelerator", "serve")  # targets that must be there
WITHOUT_ENTRYPOINT = ("cpu", "accelerator")  # kfp.local's DockerRunner hands a step's command to an entrypoint
ACCELERATORS = {"cuda13": "jax-cuda13-plugin", "tpu": "libtpu"}  # of target accelerator -> the package that it is about
TAG = re.compile(r"bertline-python:([a-z0-9-]+?)-(\d+\.\d+\.\d+)\b")  # target, version


def check_images(root: Path) -> Iterator[Finding]:
    """All of it."""
    yield from check_targets(root)
    yield from check_names(root)
    yield from check_pins(root)
    yield from check_copies(root)
    yield from check_accelerators(root)


def list_targets(root: Path) -> list[str]:
    """The Dockerfile's stages, by name."""
    return re.findall(r"^FROM .* AS (\w+)$", read(root, DOCKERFILE), re.MULTILINE)


def check_targets(root: Path) -> Iterator[Finding]:
    """Targets are there, and those that are built by name."""
    targets, built, text = list_targets(root), read(root, CLOUDBUILD), read(root, DOCKERFILE)
    for target in BUILT:
        if target not in targets:
            yield Finding(DOCKERFILE, 0, f"there is no target {target}", f"add FROM ... AS {target}")
    for found in re.finditer(r"--target=([\w-]+)", built):
        if found[1] not in targets:
            line = line_of(built, re.escape(found[0]))
            yield Finding(CLOUDBUILD, line, f"{DOCKERFILE} has no target {found[1]}", f"it has {', '.join(targets)}")
    stages = re.split(r"^FROM .* AS (\w+)$", text, flags=re.MULTILINE)
    for target, stage in zip(stages[1::2], stages[2::2], strict=True):
        if target in WITHOUT_ENTRYPOINT and re.search(r"^ENTRYPOINT", stage, re.MULTILINE):
            line = line_of(text, r"^ENTRYPOINT", line_of(text, rf"AS {target}$"))
            yield Finding(DOCKERFILE, line, f"{target} has an ENTRYPOINT", "steps bring their own command; use CMD")


def check_names(root: Path) -> Iterator[Finding]:
    """What Cloud Build pushes is what terraform tells, and what manifests and scripts name."""
    built, outputs = read(root, CLOUDBUILD), read(root, OUTPUTS)
    tags = set(re.findall(r"--tag=\$\{_IMAGE\}:([\w-]+)-\$\{_VERSION\}", built))
    listed = re.search(r"for target in \[([^]]*)\]", outputs)
    told = set(re.findall(r'"([\w-]+)"', listed[1])) if listed else set()
    for tag in sorted(tags ^ told):
        where, other = (CLOUDBUILD, OUTPUTS) if tag in told else (OUTPUTS, CLOUDBUILD)
        yield Finding(where, 0, f"the image {tag} is not here, but in {other}", "name it in both or in neither")
    for name, text in (*list_manifests(root).items(), (LAPTOP, read(root, LAPTOP))):
        for found in TAG.finditer(text):
            if found[1] not in tags:
                line = line_of(text, re.escape(found[0]))
                yield Finding(name, line, f"{CLOUDBUILD} builds no image {found[1]}", f"it builds {sorted(tags)}")
    image = re.search(r'^DEFAULT_IMAGE = "([\w-]+):', read(root, STEPS), re.MULTILINE)
    for name in (CLOUDBUILD, OUTPUTS, LAPTOP) if image else ():
        if image and not re.search(rf"\b{image[1]}\b", read(root, name)):
            yield Finding(name, 0, f"the image {image[1]} of {STEPS} is not named", f"call the image {image[1]}")


def check_pins(root: Path) -> Iterator[Finding]:
    """Nothing in an image depends on the day when it was built."""
    text, own = read(root, DOCKERFILE), list_targets(root)
    for stage in re.finditer(r"^FROM (\S+)(?: AS \w+)?$", text, re.MULTILINE):
        if stage[1] not in own and (":" not in stage[1] or stage[1].endswith(":latest")):
            yield Finding(DOCKERFILE, line_of(text, re.escape(stage[0])), f"{stage[1]} moves", "name a version's tag")
    for call in re.finditer(r"pip install ([^\n&|]*)", text):
        if not re.search(r"--(requirement|constraint)[ =]|--no-deps /tmp/wheels", call[1]):
            line = line_of(text, re.escape(call[0]))
            yield Finding(DOCKERFILE, line, f"pip install {call[1].strip()}: not pinned", "install from a lock")
    for name, manifest in list_manifests(root).items():
        for found in re.finditer(r"image: (\S+)$", manifest, re.MULTILINE):
            if ":" not in found[1] or found[1].endswith(":latest"):
                line = line_of(manifest, re.escape(found[0]))
                yield Finding(name, line, f"{found[1]} moves", "name a version's tag")


def check_copies(root: Path) -> Iterator[Finding]:
    """What the Dockerfile copies is there, and sent to the engine."""
    text = read(root, DOCKERFILE)
    lines = [line[1:] for line in read(root, ".dockerignore").splitlines() if line.startswith("!")]
    sent = re.compile("|".join(re.escape(line).replace(r"\*", ".*") for line in lines) or "nothing")
    for copied in re.finditer(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE):
        line = line_of(text, re.escape(copied[0]))
        for name in _list_sources(copied[1]):
            if not (root / name).exists():
                yield Finding(DOCKERFILE, line, f"there is no {name}", "mend the name, or add the file")
            elif not sent.fullmatch(name):
                yield Finding(".dockerignore", 0, f"{name} is not sent to the engine", f"add !{name}")


def _list_sources(words: str) -> Iterator[str]:
    for word in words.split():
        if "${ACCELERATOR}" in word:
            yield from (word.replace("${ACCELERATOR}", each) for each in ACCELERATORS)
        else:
            yield word


def check_accelerators(root: Path) -> Iterator[Finding]:
    """The locks of accelerators go with the JAX of the project's lock."""
    locked = read_lock(root, "requirements.lock")
    for accelerator, package in ACCELERATORS.items():
        name = f"infra/docker/requirements-{accelerator}.lock"
        extra = read_lock(root, name)
        if package not in extra:
            yield Finding(name, 0, f"{package} is missing", "resolve the extra of JAX again")
        for each in sorted(extra.keys() & locked.keys()):
            yield Finding(name, 0, f"{each} is in requirements.lock, too", "keep it there alone")
        for each, version in extra.items():
            if each.startswith("jax-") and version != locked.get("jax"):
                yield Finding(
                    name, 0, f"{each} {version} for jax {locked.get('jax')}", "resolve the extra of JAX again"
                )
