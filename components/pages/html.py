"""What the HTML pages are built of: one frame and style, tables, horizontal bars, histograms as SVG."""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

WIDTH, HEIGHT = 360, 196  # of a histogram, in units that are close to pixels on a desktop and on a phone
LEFT, RIGHT, TOP, BOTTOM = 42, 18, 10, 40  # around its plot
MOST_BARS = 160  # more are too thin to be told apart: neighbours are joined, two, four, eight to a bar
MOST_TICKS = 8  # intervals between labels
STEPS = (1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 50, 64, 100)  # bars from label to label, where they divide the axis
PLAIN_STEPS = (1, 2, 5, 10, 20, 50, 100)  # where none does
SHARE_STEPS = (1, 5, 10, 20, 50)
STEEP = 30  # the highest bar is this many times the median one: a logarithmic axis shows the others


@dataclass(frozen=True)
class Bar:
    """One row of horizontal bars."""

    name: str
    share: float  # of the whole width, 0 to 1
    text: str
    title: str  # what the pointer shows
    mark: float | None = None  # where a line stands, 0 to 1: what was asked for


@dataclass(frozen=True)
class Histogram:
    """Counts of values in bins; `edges[i] <= value < edges[i + 1]` for `counts[i]`."""

    title: str
    axis: str  # "tokens in a row"
    things: str  # what is counted: "rows"
    edges: Sequence[float]  # whole numbers, or shares from 0 to 1
    counts: Sequence[int]
    shares: bool = False
    mean: float | None = None  # where it is known better than bins of many numbers tell


def page(title: str, summary: str, body: str, style: str = "") -> str:
    """A self-contained HTML page; `title` and `summary` are text, `body` and `style` are markup."""
    return PAGE.format(title=html.escape(title), summary=html.escape(summary), body=body, style=STYLE + style)


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Two columns, a name (text) and its figure (markup)."""
    lines = "".join(f'<tr><th scope="row">{html.escape(name)}</th><td>{figure}</td></tr>' for name, figure in rows)
    return f'<table class="facts">{lines}</table>'


def bars(rows: Iterable[Bar]) -> str:
    """Horizontal bars, one below the other, each with its name and its figure."""
    return f'<table class="bars">{"".join(_bar_row(row) for row in rows)}</table>'


def format_count(number: int, things: str) -> str:
    """`format_count(1234, "rows") == "1,234 rows"`, `format_count(1, "rows") == "1 row"`."""
    return f"{number:,} {things.removesuffix('s') if number == 1 else things}"


def percent(share: float) -> str:
    """At most two decimals: `percent(0.5003) == "50.03 %"`."""
    if 0 < share < 0.00005:
        return "under 0.01 %"
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + " %"


def short(number: float) -> str:
    """For labels of axes, exact: `short(12_500) == "12.5k"`, `short(1024) == "1,024"`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size and number % (size / 10) == 0:
            return f"{number / size:g}{letter}"
    return f"{number:,.0f}"


def histogram(drawn: Histogram) -> str:
    """An SVG bar chart with its title and a caption that gives total and mean."""
    title = f"<h3>{html.escape(drawn.title)}</h3>"
    total = sum(drawn.counts)
    if not total:
        return f'<figure>{title}<p class="nothing">Empty: no {html.escape(drawn.things)} were counted.</p></figure>'
    shown = _join_bins(_trim_ends(drawn))
    steep = max(shown.counts) > STEEP * median(count for count in shown.counts if count)
    caption = f"{format_count(total, drawn.things)}, mean {_mean(drawn)}"
    if len(shown.counts) < len(drawn.counts) and _unit_bins(drawn):
        caption += f", {shown.edges[1] - shown.edges[0]:g} to a bar"
    caption += ", logarithmic axis" if steep else ""
    drawing = _value_axis(shown, steep) + _bars_of(shown, total, steep) + _bin_axis(shown)
    return (
        f'<figure>{title}<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(drawn.title)}">'
        f"{drawing}</svg><figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _bar_row(row: Bar) -> str:
    mark = "" if row.mark is None else f'<i style="left:{100 * row.mark:.2f}%"></i>'
    return (
        f'<tr title="{html.escape(row.title)}"><th scope="row"><div>{html.escape(row.name)}</div></th>'
        f'<td class="track"><div><b style="width:{100 * row.share:.2f}%"></b>{mark}</div></td>'
        f"<td>{html.escape(row.text)}</td></tr>"
    )


def _unit_bins(drawn: Histogram) -> bool:
    return not drawn.shares and all(high - low == 1 for low, high in zip(drawn.edges, drawn.edges[1:]))


def _mean(drawn: Histogram) -> str:
    """Exact for bins of one whole number; else taken from the middle of each bin, and said to be so."""
    if drawn.mean is not None:
        return percent(drawn.mean) if drawn.shares else f"{drawn.mean:,.1f}"
    reach = 0 if drawn.shares else 1  # the last whole number of a bin is its end less one
    middles = [(low + high - reach) / 2 for low, high in zip(drawn.edges, drawn.edges[1:])]
    mean = sum(middle * count for middle, count in zip(middles, drawn.counts)) / sum(drawn.counts)
    if drawn.shares:
        return f"about {100 * mean:.1f} %"
    return f"{mean:,.1f}" if _unit_bins(drawn) else f"about {mean:,.1f}"


def _trim_ends(drawn: Histogram) -> Histogram:
    """Without the empty bins at the ends, except where the whole range is known and tells something."""
    if _unit_bins(drawn):
        return drawn
    used = [place for place, count in enumerate(drawn.counts) if count]
    first, last = 0, used[-1] + 1
    if drawn.shares:  # whole fives, so that labels stand at round percents
        first, last = used[0] // 5 * 5, min(len(drawn.counts), -(-last // 5) * 5)
    return _with_bins(drawn, drawn.edges[first : last + 1], drawn.counts[first:last])


def _join_bins(drawn: Histogram) -> Histogram:
    """Neighbouring bins as one, until no more than MOST_BARS are left."""
    size = 1
    while len(drawn.counts) > size * MOST_BARS:
        size *= 2
    counts = [sum(drawn.counts[start : start + size]) for start in range(0, len(drawn.counts), size)]
    return _with_bins(drawn, [*drawn.edges[:-1:size], drawn.edges[-1]], counts)


def _with_bins(drawn: Histogram, edges: Sequence[float], counts: Sequence[int]) -> Histogram:
    return replace(drawn, edges=edges, counts=counts)


def _bars_of(drawn: Histogram, total: int, steep: bool) -> str:
    """All bars have one width, whatever their bins; each has a full-height target for the pointer."""
    width = (WIDTH - LEFT - RIGHT) / len(drawn.counts)
    gap = min(1.0, width / 5)
    top = _top(drawn, steep)
    drawing = []
    for place, count in enumerate(drawn.counts):
        if count:
            x, height = LEFT + place * width, max(1.5, _height(count, top, steep))
            title = f"{_bin_name(drawn, place)}: {format_count(count, drawn.things)} ({percent(count / total)})"
            drawing.append(
                f'<g class="bin"><title>{html.escape(title)}</title>'
                f'<rect class="target" x="{x:.2f}" y="{TOP}" width="{width:.2f}" height="{HEIGHT - TOP - BOTTOM}"/>'
                f'<rect x="{x + gap / 2:.2f}" y="{HEIGHT - BOTTOM - height:.2f}" width="{width - gap:.2f}" '
                f'height="{height:.2f}"/></g>'
            )
    return "".join(drawing)


def _bin_name(drawn: Histogram, place: int) -> str:
    low, high = drawn.edges[place : place + 2]
    if drawn.shares:
        return f"{100 * low:.4g} to {100 * high:.4g} %"
    return f"{low:,.0f}" if high - low == 1 else f"{low:,.0f} to {high - 1:,.0f}"


def _bin_axis(drawn: Histogram) -> str:
    """Labels below: a bin of one number in its middle, the ends of other bins between the bars."""
    middle = _unit_bins(drawn)
    span = len(drawn.counts) - (1 if middle or drawn.edges[-1] - drawn.edges[-2] == 1 else 0)
    step = _step(span, SHARE_STEPS if drawn.shares else STEPS)
    width = (WIDTH - LEFT - RIGHT) / len(drawn.counts)
    foot = HEIGHT - BOTTOM
    drawing = [f'<path class="axis" d="M{LEFT},{foot} H{WIDTH - RIGHT}"/>']
    for place in range(0, span + 1, step):
        x = LEFT + (place + middle / 2) * width
        label = f"{100 * drawn.edges[place]:.4g} %" if drawn.shares else short(drawn.edges[place])
        drawing.append(f'<path class="axis" d="M{x:.2f},{foot} v4"/>')
        drawing.append(f'<text x="{x:.2f}" y="{foot + 15}" text-anchor="middle">{label}</text>')
    centre = (LEFT + WIDTH - RIGHT) / 2
    axis = f'<text class="name" x="{centre}" y="{HEIGHT - 6}" text-anchor="middle">{html.escape(drawn.axis)}</text>'
    return "".join(drawing) + axis


def _step(span: int, steps: Sequence[int]) -> int:
    fitting = [step for step in steps if span / step <= MOST_TICKS and span % step == 0]
    wide = [step for step in PLAIN_STEPS if span / step <= MOST_TICKS]
    return (fitting or wide or [span])[0]


def _value_axis(drawn: Histogram, steep: bool) -> str:
    top = _top(drawn, steep)
    if steep:
        ticks = [10.0**power for power in range(int(math.log10(top)) + 1)]
    else:
        ticks = [_tick(top) * number for number in range(round(top / _tick(top)) + 1)]
    drawing = []
    for tick in ticks:
        y = HEIGHT - BOTTOM - _height(tick, top, steep)
        drawing.append(f'<path class="grid" d="M{LEFT},{y:.2f} H{WIDTH - RIGHT}"/>')
        drawing.append(f'<text x="{LEFT - 6}" y="{y + 4:.2f}" text-anchor="end">{short(tick)}</text>')
    return "".join(drawing)


def _top(drawn: Histogram, steep: bool) -> float:
    """The upper end of the axis: the highest bar, or the round number above it."""
    highest = max(drawn.counts)
    return float(highest) if steep else _tick(highest) * math.ceil(highest / _tick(highest))


def _tick(highest: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, 50 ... that makes at most five intervals."""
    size = 10.0 ** math.floor(math.log10(max(1, highest / 5)))
    return next(size * number for number in (1, 2, 5, 10) if highest <= 5 * size * number)


def _height(count: float, top: float, steep: bool) -> float:
    """Of a bar; on a logarithmic axis the foot stands for one half, so that a single thing can be seen."""
    share = math.log(2 * count) / math.log(2 * top) if steep and count else count / top
    return share * (HEIGHT - TOP - BOTTOM)


STYLE = """
 :root { color-scheme: light dark; --back: #ffffff; --text: #0f172a; --faint: #56657a; --line: #e2e8f0;
  --soft: #f1f5f9; --bar: #3b82f6; --over: #1d4ed8; --asked: #dc2626; --found: #fef9c3; }
 @media (prefers-color-scheme: dark) { :root { --back: #0f172a; --text: #e2e8f0; --faint: #9aa9be; --line: #334155;
  --soft: #1e293b; --bar: #5b9bf3; --over: #bfdbfe; --asked: #fb923c; --found: #422006; } }
 body { font: 14px/1.45 system-ui, "DejaVu Sans", sans-serif; margin: 24px; color: var(--text);
  background: var(--back); -webkit-text-size-adjust: 100%; }
 @media (max-width: 600px) { body { margin: 16px 12px; } }
 h1 { margin: 0 0 4px; } h2 { margin: 36px 0 8px; font-size: 18px; } h3 { margin: 16px 0 6px; font-size: 14px; }
 p { margin: 0 0 12px; } table { border-collapse: collapse; }
 td, th { border-bottom: 1px solid var(--line); padding: 4px 12px; text-align: left; vertical-align: top; }
 tr:target { background: var(--found); }
 .facts, .bars { width: 100%; font-variant-numeric: tabular-nums; }
 .facts th { font-weight: 400; padding-left: 0; overflow-wrap: anywhere; }
 .facts td { text-align: right; padding-right: 0; overflow-wrap: anywhere; } .facts [title] { cursor: help; }
 .bars td, .bars th { border: 0; padding: 2px 0; vertical-align: middle; font-weight: 400; }
 .bars th div { width: max-content; max-width: min(22em, 42vw); overflow-wrap: anywhere; }
 .bars td { text-align: right; white-space: nowrap; } .bars td.track { width: 100%; padding: 2px 12px; }
 .track div { position: relative; background: var(--soft); border-radius: 2px; min-width: 50px; }
 .track b { display: block; height: 14px; min-width: 1px; background: var(--bar); border-radius: 2px; }
 .track i { position: absolute; top: -3px; bottom: -3px; width: 2px; margin-left: -1px; background: var(--asked); }
 .bars tr:hover b { background: var(--over); }
 figure { margin: 0; min-width: 0; } figure h3 { margin-top: 0; }
 figure svg { display: block; width: 100%; max-width: 480px; height: auto; }
 figcaption, .nothing, .note { color: var(--faint); font-size: 13px; }
 figure text { font-size: 11px; fill: var(--faint); } figure .name { fill: var(--text); }
 .grid, .axis { fill: none; stroke: var(--line); } .axis { stroke: var(--faint); }
 .bin rect { fill: var(--bar); } .bin .target { fill: transparent; } .bin:hover rect:last-child { fill: var(--over); }
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><main><h1>{title}</h1><p>{summary}</p>
{body}
</main></body></html>
"""
