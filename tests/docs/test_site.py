"""The documentation's site is built strictly, without the network, and its reference tells of all that there is."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bertline.components.step_table import STEPS
from bertline.pipelines.cli.main import VERBS
from bertline.pipelines.recipes import RECIPES, RUNS
from bertline.pipelines.run_settings import Run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("site")
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", f"--site-dir={folder}"]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, env=quiet)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=[\"']?(https?:[^\"' >]+)")


def test_it_asks_nothing_of_the_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert LOADED.findall(page.read_text(encoding="utf-8")) == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:|@import", sheet.read_text()), sheet


def test_every_command_has_a_page_with_its_flags(site: Path) -> None:
    for verb in VERBS:
        text = (site / "reference" / "commands" / f"{verb}.html").read_text(encoding="utf-8")
        assert f"bertline {verb}" in text
    text = (site / "reference" / "commands" / "prepare.html").read_text(encoding="utf-8")
    assert "--masked_lm_prob" in text and "hare of masked tokens" in text


def test_every_setting_is_in_the_reference(site: Path) -> None:
    text = (site / "reference" / "settings.html").read_text(encoding="utf-8")
    for cls in (*(step.config_class() for step in STEPS.values()), Run):
        assert f"{cls.__module__}.{cls.__name__}" in text
        for field in dataclasses.fields(cls):
            assert f"<code>{field.name}</code>" in text


def test_every_run_and_recipe_has_its_file_without_this_machines_paths(site: Path) -> None:
    for name in (*RUNS, *RECIPES):
        text = (site / "reference" / "configurations" / f"{name}.html").read_text(encoding="utf-8")
        assert f"run {name}" in text and "steps_128 = " in re.sub("<[^>]*>", "", text)
    for page in site.rglob("*.html"):
        assert str(ROOT) not in page.read_text(encoding="utf-8")


LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)|(?:src|href)=\"([^\":]+)\"")
GENERATED = re.compile(r"reference/(?:commands/\w+|configurations/\w+|settings)\.md$")


def test_links_lead_to_files_of_the_tree_too() -> None:
    """The site has some files elsewhere, and would not notice; its generated pages are not in the tree."""
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    links = [(page, "".join(link)) for page in pages for link in LINK.findall(page.read_text(encoding="utf-8"))]
    assert len(links) > 50
    lost = [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()]
    assert [each for each in lost if not GENERATED.search(each)] == []
