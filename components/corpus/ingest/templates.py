"""Templates in wikitext: those whose words belong to the sentence become text, all others nothing.

WikiExtractor drops every template, and with it the number in "a height of {{convert|8848|m|ft}}" and the
name in "''{{lang|fr|Le Monde}}''". The names below are the commonest ones of that sort in the dumps of
English, Italian, French, German, Spanish, Vietnamese, Japanese and Chinese Wikipedia.
"""

import re
from collections.abc import Callable

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
    name, *parts = ARGUMENT_END.split(match[1])
    name = name.strip().lower()
    if name.startswith("formatnum:"):
        return name.removeprefix("formatnum:")
    read = TEXT_OF.get(name) or (_first if name.startswith("lang-") else None)
    if read is None:
        return ""
    arguments = []
    for part in parts:
        named = NAMED.match(part)
        if named is None:
            arguments.append(part.strip())
        elif named[1].lower() in NAMED_WORDS:
            arguments.append(part[named.end() :].strip())
    return read(arguments)
