"""Wikitext before WikiExtractor, and its lines after: what it drops is rescued, what it leaves is cleaned."""

import re
from collections.abc import Iterable

from bertline.components.corpus.ingest.templates import templates_to_text

COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
# Elements whose content is no prose. An opening tag never closed ends at the next one of its kind, so
# that it costs no more than its own content.
NO_PROSE = re.compile(
    r"<(ref|syntaxhighlight|source|pre|score|timeline|graph|gallery|imagemap|mapframe|maplink|hiero|rp|rt)\b[^<>]*(?<!/)>"
    r"(?:[^<]++|<(?!/?\1\b))*+</\1\s*>",
    re.IGNORECASE,
)
EMPTY_ELEMENT = re.compile(
    r"<(?:ref|references|section|templatestyles|nowiki|maplink|mapframe)\b[^<>]*/>", re.IGNORECASE
)
FORMULA = re.compile(r"<(math|chem|ce)\b[^<>]*(?<!/)>(?:[^<]++|<(?!/?\1\b))*+</\1\s*>", re.IGNORECASE)
INLINE_CODE = re.compile(r"<code\b[^<>]*>([^<\n]*+)</code\s*>", re.IGNORECASE)
BLOCK_CODE = re.compile(r"<code\b[^<>]*(?<!/)>(?:[^<]++|<(?!/?code\b))*+</code\s*>", re.IGNORECASE)
# Left of formulas and code never closed; WikiExtractor takes quadratic time over them.
UNPAIRED_TAG = re.compile(r"</?(?:math|chem|ce|code)\b[^<>]*>", re.IGNORECASE)
PLACEHOLDER = "formula_0"  # what WikiExtractor itself writes for a formula

# l'''Amleto'' is "l'" with a title in italics; the other runs of apostrophes are only type.
ELISION = "l|d|c|j|m|n|s|t|qu|un|all|dall|dell|nell|sull|coll|quell|quest|bell|sant|jusqu|lorsqu|puisqu"
ELIDED_ITALICS = re.compile(rf"(?<![\w'])({ELISION})'''(?!')([^'\n]+)''(?!')", re.IGNORECASE)
APOSTROPHES = re.compile(r"'''''|'''|''")

# Chinese pages hold several spellings: -{zh-hans:联邦州; zh-hant:邦}-, or -{T|...}- for a rule.
VARIANTS = re.compile(r"-\{(?:([^{}|]*+)\|)?([^{}]*+)\}-")
SIMPLIFIED = re.compile(r"zh-(?:hans|cn)\s*:\s*([^;]*)")
FIRST_VARIANT = re.compile(r"\s*zh(?:-\w+)?\s*:\s*([^;]*)")

TITLE_WITH_COLON = re.compile(r"\[\[([^\[\]|:#\n]{2,80}): ([^\[\]|\n]*)(?:\|([^\[\]|\n]*))?\]\]")


def prepare_wikitext(text: str) -> str:
    """Wikitext without references, code, comments, templates and type, as WikiExtractor takes it best."""
    text = COMMENT.sub("", text)
    text = EMPTY_ELEMENT.sub("", text)
    text = NO_PROSE.sub("", text)
    text = FORMULA.sub(PLACEHOLDER, text)
    text = UNPAIRED_TAG.sub("", BLOCK_CODE.sub("", INLINE_CODE.sub(r"\1", text)))
    text = templates_to_text(text)
    text = APOSTROPHES.sub("", ELIDED_ITALICS.sub(r"\1'\2", text))
    return VARIANTS.sub(_one_variant, text)


def free_titles_with_colons(text: str, namespaces: Iterable[str]) -> str:
    """`text` with links such as [[Spider-Man: Far From Home]] as plain words.

    WikiExtractor takes all before a colon for a namespace and drops the link; `namespaces` (lower case) are those
    of this wiki.
    """

    def words(match: re.Match[str]) -> str:
        if match[1].strip().lower() in namespaces:
            return match[0]
        return match[3] or f"{match[1]}: {match[2]}"

    return TITLE_WITH_COLON.sub(words, text)


def _one_variant(match: re.Match[str]) -> str:
    flags, content = match[1], match[2]
    if flags is not None and set(flags.strip()) & set("HT-"):  # rules for the page or its title: not shown
        return ""
    chosen = SIMPLIFIED.search(content) or FIRST_VARIANT.match(content)
    return chosen[1].strip() if chosen else content
