"""Lines that WikiExtractor wrote, to paragraphs without its placeholders and leftover markup."""

import html
import re
from collections.abc import Iterable

from bertline.components.corpus.documents import one_line

TAG_NAMES = (
    "a|abbr|b|bdi|bdo|big|blockquote|br|center|chem|cite|code|data|dd|del|div|dl|dt|em|font|gallery|graph|h[1-6]|hiero|hr|"
    "i|imagemap|includeonly|ins|kbd|li|mapframe|maplink|mark|math|noinclude|nowiki|ol|onlyinclude|p|poem|pre|q|rb|ref|"
    "references|rp|rt|ruby|s|samp|score|section|small|source|span|strike|strong|sub|sup|syntaxhighlight|table|td|"
    "templatestyles|th|time|timeline|tr|tt|u|ul|var|wbr"
)
TAG = re.compile(rf"</?(?:{TAG_NAMES})(?:\s[^<>]*)?/?>", re.IGNORECASE)
PLACEHOLDER = re.compile(r"\b(?:formula|codice)_\d+")
CITATION = re.compile(r"\s?\[\d{1,3}\]")
BRACKETED_URL = re.compile(r"\({1,3}\s*https?://[^\s()]*+(?:\([^\s()]*+\))?\s*\)+")
URL_LINE = re.compile(r"(?:https?://|www\.)\S+")

# Brackets that a dropped template or formula left empty or half empty, also the full-width ones.
EMPTY_BRACKETS = re.compile(r"[(（](?:[\s,;:/、，；：–-]|e\.g\.|i\.e\.)*+[)）]")
AFTER_OPENING = re.compile(r"([(（])[\s,;:、，；：]++")
BEFORE_CLOSING = re.compile(r"[,;:、，；：][\s,;:、，；：]*+(?=[)）])")
EMPTY_QUOTES = re.compile(r"[“«「《『]\s*[”»」》』]")
EMPTY_STRAIGHT_QUOTES = re.compile(r"(?<!\w)\"\"(?!\w)")
DOUBLED_QUOTES = re.compile(r'"{2,}')
DANGLING_COMMA = re.compile(r"[,，、;；]\s?(?=[,，、。]|\.(?!\.))")
SPACE_BEFORE = re.compile(r"\s([,.;:)\]，。、）])(?!\w)")

BULLET = re.compile(r"^[\s*#:;•·▪◦●■‣∙|!]+(?=\s*\S)")
SENTENCE_END = re.compile(r"[.!?…。！？।॥۔؟።][\"'”’»)\]」』）》]*$")
# Markup that survived can only be a broken table, link or template: the line is no prose.
MARKUP_PAIRS = ("{{", "}}", "{|", "|}", "[[", "]]", "||", "==")
ATTRIBUTE = re.compile(r"\b(?:colspan|rowspan|style|align|bgcolor)\s*=")
SHORT_FRAGMENT_CHARACTERS = 40  # shorter lines that end no sentence are captions, list items and their "such are:"
FORMULA_SHARE = 50  # a line with more than one placeholder per so many characters is a derivation

CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def clean_paragraphs(lines: Iterable[str]) -> list[str]:
    """The prose among WikiExtractor's lines, each cleaned; headings, captions and list items are left out."""
    cleaned = (_clean(line) for line in lines)
    return [line for line in cleaned if line]


def _clean(line: str) -> str:
    formulas = len(PLACEHOLDER.findall(line)) if "_" in line else 0
    line = one_line(line)
    if not line or formulas * FORMULA_SHARE > len(line):
        return ""
    line = TAG.sub("", html.unescape(line)) if "&" in line or "<" in line else line
    if "[" in line or "]" in line:
        line = CITATION.sub("", line)
    if _has_markup(line):
        return ""
    line = BULLET.sub("", PLACEHOLDER.sub("", line) if formulas else line)
    line = " ".join(_tidy_brackets(line).split())
    return "" if _is_fragment(line) else line


def _has_markup(line: str) -> bool:
    if any(pair in line for pair in MARKUP_PAIRS) or line.startswith(("|", "!")) or line.endswith(("{", ");", "};")):
        return True
    return "=" in line and bool(ATTRIBUTE.search(line))


def _tidy_brackets(line: str) -> str:
    """Brackets, quotes and commas closed up around what is gone; twice, because brackets nest."""
    if "http" in line:
        line = BRACKETED_URL.sub("", line)
    if "(" in line or "（" in line:
        for _ in range(2):
            line = AFTER_OPENING.sub(r"\1", EMPTY_BRACKETS.sub("", line))
            line = BEFORE_CLOSING.sub("", line)
        line = EMPTY_BRACKETS.sub("", line)
    line = EMPTY_QUOTES.sub("", line)
    if '""' in line:
        line = DOUBLED_QUOTES.sub('"', EMPTY_STRAIGHT_QUOTES.sub("", line))
    return SPACE_BEFORE.sub(r"\1", DANGLING_COMMA.sub("", line))


def _is_fragment(line: str) -> bool:
    if not line or URL_LINE.fullmatch(line) or not any(character.isalpha() for character in line):
        return True
    if SENTENCE_END.search(line):
        return False
    # A Chinese, Japanese or Korean sentence says as much in half the characters.
    return len(line) < SHORT_FRAGMENT_CHARACTERS // (2 if CJK.search(line) else 1)
