"""Lines as SVG: what was measured against a size, for benchmarks/plots."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 520, 300  # pixels
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 34, 46  # around the plot; the names of the lines stand at the right
COLOURS = ("#0b6e99", "#d9480f", "#5c940d", "#862e9c", "#495057", "#c2255c", "#0c8599")
Point = tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """Lines over a logarithmic axis; the other axis starts at `least`, or is logarithmic too."""

    title: str
    x_axis: str
    y_axis: str
    lines: Mapping[str, Sequence[Point]]
    logarithmic: bool = False
    least: float = 0.0
    marks: Sequence[float] = ()  # named on the logarithmic axis; none: each that a point has


def svg_of(chart: Chart) -> str:
    """The chart as an SVG file; each point's number is shown by the pointer."""
    points = [point for line in chart.lines.values() for point in line]
    xs, ys = sorted({x for x, _ in points}), [y for _, y in points]
    marks = ticks(min(ys), max(ys)) if chart.logarithmic else steps(chart.least, max(ys))
    bottom = HEIGHT - BOTTOM

    def place(point: Point) -> Point:
        across = share(point[0], xs[0], xs[-1], logarithmic=True)
        up = share(point[1], marks[0], marks[-1], logarithmic=chart.logarithmic)
        return LEFT + across * (WIDTH - LEFT - RIGHT), bottom - up * (bottom - TOP)

    parts = [
        _text(LEFT, 18, chart.title, "start", "bold"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, chart.x_axis),
    ]
    parts.append(
        f'<g transform="rotate(-90 14 {(TOP + bottom) / 2})">{_text(14, (TOP + bottom) / 2, chart.y_axis)}</g>'
    )
    for mark in marks:
        y = place((xs[0], mark))[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#dee2e6"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{mark:,.10g}", "end"))
    parts += [_text(place((x, marks[0]))[0], bottom + 16, f"{x:g}") for x in chart.marks or xs]
    for colour, line in zip(COLOURS, chart.lines.values()):
        places = [place(point) for point in line]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), point in zip(places, line):
            shown = f"<title>{point[0]:g}: {point[1]:g}</title>"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}">{shown}</circle>')
    names = _apart({name: place(line[-1])[1] for name, line in chart.lines.items()})
    for colour, name in zip(COLOURS, chart.lines):
        parts.append(_text(WIDTH - RIGHT + 8, names[name] + 4, name, "start", colour=colour))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    style = 'font-family="sans-serif" font-size="11"'
    return "\n".join(
        [f"{head} {style}>", f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', *parts, "</svg>\n"]
    )


def ticks(least: float, most: float) -> list[float]:
    """Round numbers around all values of a logarithmic axis: 1, 2, 5, 10, 20 ..."""
    powers = range(math.floor(math.log10(least)) - 1, math.ceil(math.log10(most)) + 1)
    rounds = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    below = max(value for value in rounds if value <= least)
    above = min(value for value in rounds if value >= most)
    return [value for value in rounds if below <= value <= above]


def steps(least: float, most: float) -> list[float]:
    """Round numbers in equal steps around all values between two."""
    power = 10.0 ** math.floor(math.log10(most - least))
    step = next(digit * power for digit in (0.2, 0.5, 1, 2) if most - least <= 5 * digit * power)
    return [step * number for number in range(math.floor(least / step), math.ceil(most / step) + 1)]


def share(value: float, least: float, most: float, *, logarithmic: bool) -> float:
    """Where a value stands between two others, 0 to 1."""
    if logarithmic:
        value, least, most = math.log(value), math.log(least), math.log(most)
    return (value - least) / (most - least) if most > least else 0.5


def _apart(places: Mapping[str, float]) -> dict[str, float]:
    """The same heights, moved down where two lines of text would overlap."""
    moved: dict[str, float] = {}
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        moved[name] = max(place, max(moved.values(), default=-math.inf) + 13)
    return moved


def _text(
    x: float, y: float, text: str, anchor: str = "middle", weight: str = "normal", colour: str = "#212529"
) -> str:
    look = f'text-anchor="{anchor}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{html.escape(text)}</text>'
