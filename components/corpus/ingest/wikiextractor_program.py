"""The program that runs WikiExtractor: pages as JSON lines on standard input, paragraphs on standard output.

WikiExtractor is AGPL-3.0-licensed. It is used by this program alone, which is run as a process of its own:
python -m bertline.components.corpus.ingest.wikiextractor_program

For each line {"id": "12", "title": "Anarchism", "text": "wikitext"} it answers one line: {"paragraphs": [...]},
or {"error": "IndexError: ..."} when WikiExtractor fails on the page.
"""

import json
import re
import sys

from wikiextractor.extract import Extractor

from bertline.components.corpus.ingest.markup import clean_paragraphs, prepare_wikitext

# What odd markup made a parser of regular expressions raise; anything else ends the program with a traceback,
# and whoever feeds it counts that page as failed, too.
PAGE_ERRORS = (AttributeError, LookupError, RecursionError, TypeError, ValueError, OverflowError, re.error)


def paragraphs_of(page: dict[str, str]) -> list[str]:
    """The paragraphs of one page: no headings, lists, tables or templates."""
    wikitext = prepare_wikitext(page["text"])
    # keepSections=False: section titles would stand among the sentences.
    extractor = Extractor(page["id"], "", "", page["title"], [wikitext], keepSections=False)
    return clean_paragraphs(extractor.clean_text(wikitext, expand_templates=False, html_safe=False))


def main() -> None:
    """Answer each line until the input ends."""
    for line in sys.stdin.buffer:
        page = json.loads(line)
        try:
            answer: dict[str, object] = {"paragraphs": paragraphs_of(page)}
        except PAGE_ERRORS as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
