"""What runs on a cluster in tests: graphs of one step."""

from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Graphs of one step: it ends well, it fails, it takes long."""
    folder, files = tmp_path_factory.mktemp("graphs"), {}
    for name, body in {
        "well": "assert run and settings == {'rate': 1e-4, 'steps': 3}, settings",
        "badly": "raise ValueError(run)",
        "long": "__import__('time').sleep(60)",
    }.items():
        (folder / f"{name}.py").write_text(f"def step(run: str, settings: dict) -> None:\n    {body}\n")
        names: dict[str, Any] = {}
        exec(compile((folder / f"{name}.py").read_text(), str(folder / f"{name}.py"), "exec"), names)
        component = dsl.component(names["step"], base_image="bertline-python:latest", install_kfp_package=False)

        @dsl.pipeline(name="graph")
        def graph(run: str, settings: dict, store: str = "") -> None:
            component(run=run, settings=settings).set_caching_options(False)  # noqa: B023 - compiled here

        files[name] = folder / f"{name}.yaml"
        compiler.Compiler().compile(graph, str(files[name]))
    return files
