"""Wikitext before WikiExtractor, and its lines after: what it drops is rescued, what it leaves is cleaned.

WikiExtractor drops every template, and with it the number in "a height of {{convert|8848|m|ft}}" and the
name in "''{{lang|fr|Le Monde}}''". Templates whose words belong to the sentence become text before; the names below
are the commonest ones of that sort in the dumps of English, Italian, French, German, Spanish, Vietnamese, Japanese and
Chinese Wikipedia.
"""

import html
import re
from collections.abc import Callable, Iterable

from bertline.components.corpus.documents import one_line

COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
# Elements whose content is not prose. An opening tag never closed ends at the next one of its kind, so
# that it costs no more than its own content.
NOT_PROSE = re.compile(
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
FORMULA_PLACEHOLDER = "formula_0"  # what WikiExtractor itself writes for a formula

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
    text = NOT_PROSE.sub("", text)
    text = FORMULA.sub(FORMULA_PLACEHOLDER, text)
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


Arguments = list[str]


def _first(arguments: Arguments) -> str:
    return arguments[0] if arguments else ""


def _last(arguments: Arguments) -> str:
    return arguments[-1] if arguments else ""


def _second(arguments: Arguments) -> str:
    return arguments[1] if len(arguments) > 1 else ""


def _all(arguments: Arguments) -> str:
    return " ".join(arguments)


def _measure(arguments: Arguments) -> str:
    """Of 8848|m|ft "8848 m", of 10|to|20|km|mi "10 to 20 km"."""
    words = []
    for argument in arguments:
        words.append(argument)
        if not (argument[:1].isdigit() or argument[:1] in "−-+" or argument in RANGE_WORDS):
            break
    return " ".join(words)


def _century(arguments: Arguments) -> str:
    """Of XIX|e "XIXe siècle"."""
    return f"{_first(arguments)}{_second(arguments)} siècle"


RANGE_WORDS = ("to", "and", "by", "x", "-", "–", "or", "to(-)", "×")

# Template name, lower case -> what of its positional arguments is read in the sentence.
TEXT_OF: dict[str, Callable[[Arguments], str]] = {
    **dict.fromkeys(
        ("nowrap", "nobr", "nobreak", "small", "big", "em", "strong", "abbr", "tooltip", "nihongo"), _first
    ),
    **dict.fromkeys(("quote", "blockquote", "cquote", "quotation", "citation bloc", "zitat", "q", "incise"), _first),
    **dict.fromkeys(("unicode", "polytonic", "latin", "visible anchor", "ill", "interlanguage link"), _first),
    **dict.fromkeys(("illm", "仮リンク", "link-en", "le", "lang-zh"), _first),
    **dict.fromkeys(("lang", "langue", "script"), _second),
    **dict.fromkeys(("transl", "transliteration", "tsl", "en langue"), _last),
    **dict.fromkeys(
        ("date", "date-", "date de naissance", "date de décès", "unité", "nombre", "heure", "euro", "formatnum"), _all
    ),
    **dict.fromkeys(("convert", "cvt"), _measure),
    **dict.fromkeys(("s", "s-", "s mini-", "sp-"), _century),
}

INNERMOST = re.compile(r"\{\{([^{}]*+)\}\}")
MAX_NESTING = 12  # deeper ones are left to WikiExtractor, which drops them
# A "|" inside a link does not end an argument.
ARGUMENT_END = re.compile(r"\|(?![^\[\]]*+\]\])")
NAMED = re.compile(r"\s*([\w -]{1,24}?)\s*=")
# Named arguments that hold the words all the same: {{quote|text=...}}, {{lang|1=fr|2=...}}.
NAMED_WORDS = {"text", "quote", "texte", "testo", "1", "2", "3"}


def templates_to_text(wikitext: str) -> str:
    """`wikitext` with innermost templates first turned into their words or nothing.

    >>> templates_to_text("{{Infobox|height={{cvt|2|m}}}}It is {{convert|10|to|20|km|mi}} long.")
    'It is 10 to 20 km long.'
    """
    for _ in range(MAX_NESTING):
        wikitext, found = INNERMOST.subn(_text_of, wikitext)
        if not found:
            break
    return wikitext


def _text_of(match: re.Match[str]) -> str:
    name, *given = ARGUMENT_END.split(match[1])
    name = name.strip().lower()
    if name.startswith("formatnum:"):
        return name.removeprefix("formatnum:")
    read = TEXT_OF.get(name) or (_first if name.startswith("lang-") else None)
    if read is None:
        return ""
    arguments = []
    for argument in given:
        named = NAMED.match(argument)
        if named is None:
            arguments.append(argument.strip())
        elif named[1].lower() in NAMED_WORDS:
            arguments.append(argument[named.end() :].strip())
    return read(arguments)


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
# Markup that survived can only be a broken table, link or template: the line is not prose.
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
