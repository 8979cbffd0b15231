"""The statistics page: what a set of pretraining records holds, drawn from its stats.json alone."""

import html
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from bertline.components.pages.html import Bar, Histogram, bars, format_count, histogram, page, percent, table

MOST_SOURCES = 30  # documents per source: the others are shown as one
OPEN_INSTANCES = 2  # of the first instances; the others open by a click
HISTOGRAMS = (  # name in stats.json, title, axis, what is counted, shares instead of whole numbers
    ("length", "Length", "tokens in a row", "rows", False),
    ("padding", "Padding", "share of a row that is padding", "rows", True),
    ("predictions", "Predictions", "predictions in a row", "rows", False),
    ("masked_share", "Masked share", "share of a row's tokens that are to be predicted", "rows", True),
    ("sentence_length", "Sentence length", "tokens in a sentence", "sentences", False),
    ("document_length", "Document length", "sentences in a document", "documents", False),
)
OUTCOMES = (  # Devlin et al. 2018, 3.1: what the model is shown where it must predict
    ("mask", "[MASK]", 0.8),
    ("random", "a random token", 0.1),
    ("same", "the token itself", 0.1),
)
LABELS = {"next": "B follows A", "random": "B is random", "swapped": "A and B are swapped"}


def draw_statistics(statistics: Mapping[str, Any]) -> str:
    """A self-contained HTML page; `statistics` is the content of a stats.json."""
    sections = (
        f'<div class="pair">{_settings(statistics["settings"])}{_counts(statistics["counts"])}</div>',
        _histograms(statistics["histograms"], statistics["counts"].get("padding")),
        f'<div class="pair">{_next_sentences(statistics["random_next"])}{_outcomes(statistics["outcomes"])}</div>',
        _tokens(statistics["tokens"]),
        _sources(statistics["documents_per_source"]),
        _instances(statistics["first_instances"]),
    )
    return page(f"Statistics of {statistics['kind']}", _summary(statistics), "\n".join(sections), STYLE)


def _summary(statistics: Mapping[str, Any]) -> str:
    counts = statistics["counts"]
    known = [name for name in ("instances", "documents", "sentences", "tokens", "shards") if name in counts]
    figures = ", ".join(format_count(counts[name], name) for name in known)
    return f"{figures}." if figures else "No counts."


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{''.join(parts)}</section>"


def _nothing(text: str) -> str:
    return f'<p class="nothing">{html.escape(text)}</p>'


def _settings(settings: Mapping[str, Any]) -> str:
    rows = [(name, html.escape(_setting(value))) for name, value in settings.items()]
    return _section("Settings", table(rows) if rows else _nothing("No settings."))


def _setting(value: object) -> str:
    """As one would type it: a seed has no thousands to separate."""
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None or value == "" else str(value)


def _counts(counts: Mapping[str, Any]) -> str:
    rows = [(name, _figure(name, value)) for name, value in counts.items()]
    return _section("Counts", table(rows) if rows else _nothing("No counts."))


def _figure(name: str, value: int | float) -> str:
    """Fractions up to one are shares, except where the name says a unit; the exact number is in the title."""
    if isinstance(value, int):
        return f"{value:,}"
    text = percent(value) if 0 <= value <= 1 and not name.endswith("_nats") else f"{value:,.4g}"
    return f'<span title="{html.escape(repr(value))}">{text}</span>'


def _histograms(histograms: Mapping[str, Any], padding: float | None) -> str:
    """`padding` is the exact mean share, which bins blur: most rows have none at all."""
    drawn = []
    for name, title, axis, things, shares in HISTOGRAMS:
        found = histograms[name]
        if isinstance(found, Mapping):
            edges, counts = found["edges"], found["counts"]
        else:
            edges, counts = range(len(found) + 1), found
        mean = padding if name == "padding" else None
        drawn.append(histogram(Histogram(title, axis, things, edges, counts, shares, mean)))
    return _section("Distributions", f'<div class="charts">{"".join(drawn)}</div>')


def _next_sentences(random_next: Mapping[str, float] | None) -> str:
    title = "Random next sentences"
    if random_next is None:
        return _section(title, _nothing("These records hold no random next sentences."))
    return _section(title, _against([("of all pairs", random_next["found"], random_next["asked"])]))


def _outcomes(outcomes: Mapping[str, float] | None) -> str:
    title = "Shown in place of a predicted token"
    if outcomes is None:
        return _section(title, _nothing("Tokens are masked while the model is trained, not in these records."))
    return _section(title, _against([(label, outcomes[name], asked) for name, label, asked in OUTCOMES]))


def _against(rows: Sequence[tuple[str, float, float]]) -> str:
    """Bars of (name, found, asked)."""
    drawn = [
        Bar(name, found, f"{percent(found)}, asked {percent(asked)}", f"{found!r}, asked {asked!r}", asked)
        for name, found, asked in rows
    ]
    return bars(drawn)


def _tokens(tokens: Mapping[str, Any]) -> str:
    vocabulary, never_seen = tokens["vocabulary"], tokens["never_seen"]
    never = f"{never_seen:,} of {vocabulary:,} entries of the vocabulary were never seen"
    if vocabulary:
        never += f" ({percent(never_seen / vocabulary)})"
    unknown = f"{percent(tokens['unknown_share'])} of the tokens are unknown"
    summary = f'<p title="unknown: {tokens["unknown_share"]!r}">{html.escape(f"{never}; {unknown}.")}</p>'
    examples = "".join(f"<code>{html.escape(token)}</code> " for token in tokens["never_seen_examples"])
    never_seen_part = f'<h3>Never seen, for example</h3><p class="chips">{examples}</p>' if examples else ""
    frequent = _frequent(tokens["most_frequent"]) if tokens["most_frequent"] else _nothing("No tokens.")
    return _section("Tokens", summary, "<h3>Most frequent</h3>", frequent, never_seen_part)


def _frequent(pairs: Sequence[Sequence[Any]]) -> str:
    """Two columns where there is room; names and figures have fixed widths, so that all bars can be compared."""
    drawn = _scale_bars(pairs)
    half = (len(drawn) + 1) // 2
    return f'<div class="pair even"><div>{bars(drawn[:half])}</div><div>{bars(drawn[half:])}</div></div>'


def _sources(documents: Mapping[str, int]) -> str:
    ranked = sorted(documents.items(), key=lambda pair: (-pair[1], pair[0]))
    shown, others = ranked[:MOST_SOURCES], ranked[MOST_SOURCES:]
    if others:
        shown.append((format_count(len(others), "other sources"), sum(count for _, count in others)))
    return _section("Documents per source", bars(_scale_bars(shown)) if shown else _nothing("No sources."))


def _scale_bars(pairs: Sequence[Sequence[Any]]) -> list[Bar]:
    """Bars of (name, count), the largest over the whole width."""
    largest = max(1, max(count for _, count in pairs))
    return [Bar(name, count / largest, f"{count:,}", name) for name, count in pairs]


def _instances(instances: Sequence[Mapping[str, Any]]) -> str:
    if not instances:
        return _section("First instances", _nothing("No instances."))
    drawn = [_instance(instance, number) for number, instance in enumerate(instances, start=1)]
    return _section("First instances", LEGEND, *drawn)


def _instance(instance: Mapping[str, Any], number: int) -> str:
    """One row: its segments, each on a ground of its own, without padding."""
    pieces = [(shown, original) for shown, original in instance["pieces"] if original or shown != "[PAD]"]
    predicted = sum(original is not None for _, original in pieces)
    label = LABELS.get(instance["next_sentence"], instance["next_sentence"])
    badge = f'<span class="badge">{html.escape(label)}</span>' if label else ""
    size = f"{format_count(len(pieces), 'tokens')}, {predicted} to predict"
    summary = f"<summary><strong>{number}</strong> {badge}{size}</summary>"
    drawn = "".join(f'<p class="segment" dir="auto">{_words(segment)}</p>' for segment in _segments(pieces))
    return f'<details class="instance"{" open" if number <= OPEN_INSTANCES else ""}>{summary}{drawn}</details>'


Piece = tuple[str, str | None]  # what is shown, what is to be predicted


def _segments(pieces: Sequence[Piece]) -> list[Sequence[Piece]]:
    """Cut after each [SEP]; one that is to be predicted is a random replacement and ends nothing."""
    ends = [place + 1 for place, piece in enumerate(pieces) if piece == ("[SEP]", None)]
    return [pieces[start:end] for start, end in pairwise(sorted({0, *ends, len(pieces)}))]


def _words(pieces: Sequence[Piece]) -> str:
    """Pieces of one word touch; which word a piece belongs to is told by the original, not by what is shown."""
    words: list[list[Piece]] = []
    for shown, original in pieces:
        if words and (original or shown).startswith("##"):
            words[-1].append((shown, original))
        else:
            words.append([(shown, original)])
    return " ".join(_word(word) for word in words)


def _word(pieces: Sequence[Piece]) -> str:
    drawn = "".join(_piece(*piece) for piece in pieces)
    return f'<span class="word">{drawn}</span>' if len(pieces) > 1 else drawn


def _piece(shown: str, original: str | None) -> str:
    """Whatever is not the text itself stands isolated, so that the text alone sets the direction of its line."""
    if original is not None:
        outcome = "mask" if shown == "[MASK]" else "same" if shown == original else "random"
        pair = f'<bdi>{html.escape(shown)}</bdi> → <b dir="auto">{html.escape(original)}</b>'
        return f'<mark class="{outcome}" dir="ltr">{pair}</mark>'
    if shown in ("[CLS]", "[SEP]"):
        return f'<bdi class="special">{html.escape(shown)}</bdi>'
    if shown.startswith("##"):
        return f'<span class="more" title="{html.escape(shown)}">{html.escape(shown[2:])}</span>'
    return html.escape(shown)


LEGEND = """<p class="note">To be predicted, shown → original: <mark class="mask">as [MASK]</mark>
<mark class="random">as a random token</mark> <mark class="same">as itself</mark>. Underlined: the pieces of one word,
<span class="word">play<span class="more">ing</span></span>.</p>"""

STYLE = """
 :root { --mask: #fde68a; --random: #fecaca; --same: #bbf7d0; --first: #eff6ff; --second: #f0fdfa;
  --first-line: #60a5fa; --second-line: #2dd4bf; }
 @media (prefers-color-scheme: dark) { :root { --mask: #713f12; --random: #7f1d1d; --same: #14532d;
  --first: #172540; --second: #11302f; } }
 main { max-width: 1160px; margin: 0 auto; }
 .pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 0 48px; }
 .charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 28px 32px; }
 .even th div { width: 6em; } .even td:last-child { min-width: 6em; }
 .chips { line-height: 2; } code { background: var(--soft); border-radius: 4px; padding: 2px 6px; font-size: 13px;
  overflow-wrap: anywhere; }
 .instance { border: 1px solid var(--line); border-radius: 6px; margin: 0 0 10px; padding: 8px 12px; }
 summary { cursor: pointer; font-variant-numeric: tabular-nums; }
 summary strong { margin-inline-end: 8px; } .instance[open] summary { margin-bottom: 8px; }
 .badge { background: var(--soft); border: 1px solid var(--line); border-radius: 10px; padding: 1px 9px;
  margin-inline-end: 8px; font-size: 13px; }
 .segment { margin: 0 0 6px; padding: 6px 12px; line-height: 1.9; overflow-wrap: anywhere; overflow-x: auto;
  background: var(--first); border-inline-start: 3px solid var(--first-line); }
 .segment:nth-of-type(even) { background: var(--second); border-inline-start-color: var(--second-line); }
 mark { color: var(--text); border-radius: 4px; padding: 1px 5px; background: var(--mask); white-space: nowrap; }
 mark.random { background: var(--random); } mark.same { background: var(--same); }
 .word { border-bottom: 1px solid var(--faint); padding-bottom: 1px; }
 .more { border-inline-start: 2px dotted var(--faint); margin-inline-start: 2px; padding-inline-start: 1px; }
 .word mark + mark, .more + mark { margin-inline-start: 2px; } .special { color: var(--faint); font-size: 12px; }
"""
