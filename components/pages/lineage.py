"""The lineage page: what was made from what, drawn from the manifests alone."""

import html
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertline.components.kfp_artifacts import read_run_notes
from bertline.components.pages.html import page
from bertline.components.store.artifacts import Store
from bertline.components.store.manifests import RUN, crawl, find_made_files, read_manifest
from bertline.files import write_whole
from bertline.settings import list_known

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN = 210, 104, 64, 24, 24
COLOURS = {  # fill by the first word of the kind
    "file": "#f1f5f9",
    "documents": "#dbeafe",
    "sentences": "#e0f2fe",
    "vocabulary": "#ccfbf1",
    "records": "#dcfce7",
    "checkpoint": "#fef3c7",
    "finetuned": "#fde2e2",
    "scores": "#ede9fe",
    "export": "#fae8ff",
}
SHOWN_COUNTS = {  # the figures a reader asks for first
    "documents": ("documents.kept", "characters.kept"),
    "sentences": ("sentences", "documents"),
    "vocabulary": ("entries",),
    "records": ("instances", "masked_tokens"),
    "checkpoint": ("step", "last.mlm_loss", "last.nsp_loss"),
    "scores": ("masked_lm_accuracy", "masked_lm_loss", "perplexity", "next_sentence_accuracy"),
    "finetuned": ("accuracy", "f1"),
}


@dataclass(frozen=True)
class Node:
    """One artifact, or one plain file that was an input."""

    digest: str
    title: str
    manifest: dict[str, Any]
    inputs: tuple[str, ...]  # digests


def write_page(store: Store, file: Path, run: str = "") -> str:
    """Write the page of all artifacts in a store; with `run`, of those that this run made or used."""
    root, paths = store.root, _list_paths_of_run(store, run) if run else None
    if paths is None:
        store.take_manifests()
    elif not paths:
        known = sorted({each.name.split("/")[1] for each in store.objects.list("runs/")})
        if run not in known:
            raise ValueError(f'{root}: no run is called "{run}"{list_known(run, known)}')
    nodes = read_nodes(root, paths)
    if not nodes:
        raise ValueError(f"{root}: no artifacts here (no folder with a MANIFEST.json); give the folder of a store")
    text = render(nodes, title=f"Lineage of run {run}" if run else "Lineage")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text)
    return text


def read_nodes(root: Path, paths: list[Path] | None = None) -> dict[str, Node]:
    """The graph by digest: every artifact below `root` (or those at `paths`) and its plain input files."""
    manifests = {path: read_manifest(path) for path in (paths if paths is not None else crawl(root))}
    made = find_made_files(manifests.values())
    nodes: dict[str, Node] = {}
    for path, manifest in manifests.items():
        manifest["path"] = str(path)
        if (path / RUN).is_file():
            manifest["run"] = json.loads((path / RUN).read_text(encoding="utf-8"))
        sources = [made.get(each["digest"], each.get("part_of", each["digest"])) for each in manifest["inputs"]]
        title = manifest.get("label", manifest["kind"])
        nodes[manifest["digest"]] = Node(manifest["digest"], title, manifest, tuple(dict.fromkeys(sources)))
        for each in manifest["inputs"]:
            if each["kind"] == "file" and each["digest"] not in made:
                title = each.get("label", each["file"])
                nodes.setdefault(each["digest"], Node(each["digest"], title, {"kind": "file", **each}, ()))
    return nodes


def render(nodes: dict[str, Node], title: str) -> str:
    """A self-contained HTML page: the graph as SVG, and a table with every artifact's facts."""
    places = _places(nodes)
    edges = [
        _edge(places[digest], places[node.digest])
        for node in nodes.values()
        for digest in node.inputs
        if digest in places
    ]
    boxes = [_box(node, *places[node.digest]) for node in nodes.values()]
    width = max(x for x, _ in places.values()) + BOX_WIDTH + MARGIN
    height = max(y for _, y in places.values()) + BOX_HEIGHT + MARGIN
    rows = "".join(_details(node) for node in sorted(nodes.values(), key=lambda node: places[node.digest]))
    body = BODY.format(width=width, height=height, graph="".join(edges + boxes), rows=rows)
    return page(title, f"{len(nodes)} artifacts and files, {len(edges)} uses. {READING}", body, STYLE)


def _list_paths_of_run(store: Store, run: str) -> list[Path]:
    return [store.folder_of(note["path"]) for note in read_run_notes(store.objects, run) if "path" in note]


def _places(nodes: dict[str, Node]) -> dict[str, tuple[int, int]]:
    """Left upper corners: a column per distance from the sources, rows in order of kind."""
    depths: dict[str, int] = {}

    def depth(digest: str) -> int:
        if digest not in depths:
            known = [each for each in nodes[digest].inputs if each in nodes]
            depths[digest] = 1 + max((depth(each) for each in known), default=-1)
        return depths[digest]

    columns = defaultdict(list)
    for digest in sorted(nodes, key=lambda digest: (nodes[digest].title, digest)):
        columns[depth(digest)].append(digest)
    tallest = max(len(column) for column in columns.values())
    places = {}
    for number, column in columns.items():
        top = MARGIN + (tallest - len(column)) * (BOX_HEIGHT + GAP_Y) // 2
        for row, digest in enumerate(column):
            places[digest] = (MARGIN + number * (BOX_WIDTH + GAP_X), top + row * (BOX_HEIGHT + GAP_Y))
    return places


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x, y = start[0] + BOX_WIDTH, start[1] + BOX_HEIGHT // 2
    to_x, to_y = end[0], end[1] + BOX_HEIGHT // 2
    return f'<path d="M{x},{y} C{x + GAP_X // 2},{y} {to_x - GAP_X // 2},{to_y} {to_x},{to_y}" class="use"/>'


def _box(node: Node, x: int, y: int) -> str:
    family = node.manifest["kind"].split("_")[0]
    texts = [(node.title[:24], "title"), (node.digest[7:19], "digest")]
    counts = node.manifest.get("counts", {})
    shown = [key for key in SHOWN_COUNTS.get(family, ()) if key in counts][:3]
    texts += [(f"{key.replace('_', ' ')} {_figure(counts[key])}", "fact") for key in shown]
    lines = "".join(
        f'<text x="{x + 10}" y="{y + 22 + 17 * row}" class="{style}">{html.escape(text)}</text>'
        for row, (text, style) in enumerate(texts)
    )
    return (
        f'<a href="#{node.digest[7:19]}"><rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" '
        f'fill="{COLOURS.get(family, "#eeeeee")}"/>{lines}</a>'
    )


def _details(node: Node) -> str:
    manifest = node.manifest
    facts = {key: manifest[key] for key in ("path", "parameters", "counts", "code", "inputs", "run") if key in manifest}
    text = html.escape(json.dumps(facts, indent=1, ensure_ascii=False))
    size = format_size(sum(each["size_bytes"] for each in manifest["files"])) if "files" in manifest else ""
    seconds = manifest.get("run", {}).get("seconds", "")
    return (
        f'<tr id="{node.digest[7:19]}"><td>{html.escape(node.title)}</td><td><code>{node.digest[7:19]}</code></td>'
        f"<td>{size}</td><td>{seconds}</td><td><details><summary>facts</summary><pre>{text}</pre></details></td></tr>"
    )


def format_size(size_bytes: float) -> str:
    """As 512 B, 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 999.5:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.3f} TB"


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


READING = "An arrow leads from an artifact to what was made of it; a box leads to its facts."
BODY = """<div class="graph"><svg width="{width}" height="{height}" role="img" aria-label="lineage graph">
<defs><marker id="arrow" markerWidth="9" markerHeight="9" refX="8" refY="4" orient="auto">
<path d="M0,0 L9,4 L0,8z" fill="#64748b"/></marker></defs>{graph}</svg></div>
<table class="artifacts"><tr><th>artifact</th><th>digest</th><th>size</th><th>seconds</th><th></th></tr>{rows}</table>
"""

STYLE = """
 .graph { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
 .graph rect { stroke: #475569; } .use { fill: none; stroke: #64748b; marker-end: url(#arrow); }
 .graph text { fill: #0f172a; } .title { font-weight: 700; font-size: 14px; } .fact { font-size: 12px; }
 .graph .digest { font: 11px monospace; fill: #475569; }
 .artifacts { margin-top: 24px; } pre { margin: 6px 0; white-space: pre-wrap; overflow-wrap: anywhere; }
"""
