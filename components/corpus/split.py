"""The step "split": documents to sentences, one a line, in the input format of google-research/bert.

Rules and a table of abbreviations, no model: a full stop, question mark or exclamation mark with white space
after it ends a sentence unless a rule says otherwise; the marks of Chinese, Japanese, Hindi, Urdu and
Arabic end one always.
"""

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bertline.components.corpus.documents import Document, list_document_shards, read_documents
from bertline.components.run_process import end_with_parent
from bertline.progress import Progress
from bertline.settings import require_at_least


def _words(table: str) -> frozenset[str]:
    return frozenset(table.split())


# An entry in lower case stands for any spelling of the word, another one for itself alone:
# "Sun." is a day of the week, "sun." the end of a sentence.

# A full stop after these never ends a sentence: a name, a number or the rest of the phrase follows.
ABBREVIATIONS = _words(
    "mr mrs ms dr prof Rev Hon Gen Col maj capt cmdr lt sgt cpl Adm Gov Sen Rep Pres messrs mme mlle Mt Ft Fr "
    "Insp Supt vs cf viz approx ca e.g i.e figs eqs vols pp eds arts chap univ assn dept resp "  # English
    "bzw bspw evtl ggf sog vgl zzt gest hrsg abb z.b d.h u.a o.ä p.ex m.m env "  # German, French
    "sigg Sig Dott dott avv cfr pagg sra srta Dña sto núm págs "  # Italian, Spanish, Portuguese
    "св ул им гг вв рис стр напр т.е "  # Russian
)

# After these a sentence ends only if a word follows that begins sentences: "He left the U.S. The war went on."
# (Any acronym or initial is treated so, without standing here.)
ENDING_ABBREVIATIONS = _words(
    "St Ste inc ltd Co corp bros etc al jr sr esq seq ibid nos vol fig eq ch ed op est a.m p.m ph.d b.sc m.sc "
    "Ave Blvd Rd Dist Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Mon Tue Tues Wed Thu Thur Thurs Fri Sat "
    "Sun sq km kg cm mm oz lb lbs hr hrs yr yrs usw ecc geb jh jhd nr tel pag тыс млн млрд т.д т.п др"
)

# Words that are abbreviations before a number: "no. 5", "art. 3".
BEFORE_NUMBERS = _words("no art sec ver cap")

# Words that begin many sentences and few names.
STARTERS = _words(
    "the a an he she it they we i you his her its their our my your this that these those there here in on at "
    "if but and or so when while after before for as to what who whose where how why then thus hence however "
    "although though because since with without from by once one two three some most all many both each every "
    "several another such other during under over between according despite until unlike like yes no well now "
    "today later also even only just he's she's it's that's there's they're we're i'm i'll i've you're don't "
    "didn't les il elle ils elles un une ce cette ces dans en una uno nel nella der die das ein eine er sie es "
    "в на он она они это после при по с из и но его до для как также среди"
)

# "am 3. Mai", "im 19. Jahrhundert": in German a number with a full stop is an ordinal.
AFTER_ORDINALS = _words(
    "januar jänner februar märz april mai juni juli august september oktober november dezember jahrhundert "
    "jahrhunderts jahrtausend jh jhd armee division"
)

# "What?" Sara asked. - after these the sentence goes on behind the quotation.
SPEECH_VERBS = _words(
    "said asked cried replied answered exclaimed repeated inquired enquired demanded whispered murmured "
    "muttered shouted returned continued observed remarked added called gasped screamed sighed echoed begged "
    "says asks"
)

# Marks of scripts without capitals; they end a sentence with or without a space after them.
FULL_MARKS = "。！？｡।॥۔؟።"
CLOSING = "\"'”’»)]」』）》】〉"
OPENING = "\"'“‘„‚«([「『（《【〈¿¡"

# Where a sentence may end: marks with closing quotes or brackets, and a space. The look-behind and the
# possessive runs make a megabyte of full stops take linear time; a set comes first because that is found fastest.
MARKS = re.compile(rf"[.?!…](?<![.?!…]{{2}})[.?!…]*+([{re.escape(CLOSING)}]*+)\s")
FULL = re.compile(rf"[{FULL_MARKS}](?<![{FULL_MARKS}]{{2}})[{FULL_MARKS}]*+([{re.escape(CLOSING)}]*+)\s?(?=\S)")
# A quotation in the middle of a sentence: “好。”，他说 and 「はい。」と言った.
GOES_ON = frozenset("，、,；;：:")
GOES_ON_AFTER_QUOTATION = GOES_ON | frozenset("とっ")

BEGINNING = re.compile(rf"(?:[—–-]\s?)?+[{re.escape(OPENING)}]*+(?=\w)")
NEXT_WORD = re.compile(r"[\w’'-]+")
SPEAKER = re.compile(r"(?:[^\W\d_][\w’'-]*\.? ){1,3}?([a-z]+)\b")
KNOWN = frozenset(word.lower() for word in ABBREVIATIONS | ENDING_ABBREVIATIONS | BEFORE_NUMBERS)
LONGEST_WORD = 30  # before a full stop; longer words are not abbreviations
LONGEST_ITEM_NUMBER = 3  # digits of the "12." before a list item


@dataclass(frozen=True)
class SplitConfig:
    """How documents are split."""

    num_workers: int = field(default=1, metadata={"volatile": True})  # processes; the sentences are the same for any
    # number

    def __post_init__(self) -> None:
        """Refuse a number of workers that could do nothing."""
        require_at_least(self, 1, "num_workers")


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of one paragraph, none empty, none with a line end.

    >>> split_sentences("Mr. Smith paid 3.50 dollars. Did he? Yes.")
    ['Mr. Smith paid 3.50 dollars.', 'Did he?', 'Yes.']
    """
    return [
        sentence for text in _split_at_full_marks(" ".join(paragraph.split())) for sentence in _split_at_marks(text)
    ]


def run(documents: Path, out: Path, config: SplitConfig) -> dict[str, int | float]:
    """Write `sentences-NNNNN.txt` and `ids-NNNNN.txt` into `out` for each shard of `documents`.

    A blank line follows each document. Returns counts of documents, sentences, characters and dropped documents; raises
    ValueError when the documents hold not one sentence.
    """
    shards = list_document_shards(documents)
    counts: Counter[str] = Counter()
    with Progress("split", len(shards), "shards") as progress:
        for shard_counts in _split_shards(shards, out, config.num_workers):
            counts.update(shard_counts)
            progress.advance(documents=counts["documents"], sentences=counts["sentences"])
    if not counts["sentences"]:
        raise ValueError(f"{documents}: no sentence in {len(shards)} shards; see what was ingested")
    return dict(sorted(counts.items()))


def _split_shards(shards: list[Path], out: Path, num_workers: int) -> Iterator[Counter[str]]:
    if min(num_workers, len(shards)) == 1:
        yield from (_split_shard(shard, out) for shard in shards)
        return
    with ProcessPoolExecutor(min(num_workers, len(shards)), initializer=end_with_parent) as processes:
        yield from processes.map(_split_shard, shards, [out] * len(shards))


def _split_shard(shard: Path, out: Path) -> Counter[str]:
    """Shards stay apart: sentences-00003.txt holds the documents of documents-00003.jsonl.gz."""
    number = shard.name.removeprefix("documents-").partition(".")[0]
    counts: Counter[str] = Counter()
    with (
        (out / f"sentences-{number}.txt").open("w", encoding="utf-8", newline="\n") as lines,
        (out / f"ids-{number}.txt").open("w", encoding="utf-8", newline="\n") as ids,
    ):
        for document in read_documents(shard):
            sentences = _sentences_of(document)
            if not sentences:
                counts["dropped.no_sentence"] += 1
                continue
            counts.update(documents=1, sentences=len(sentences), characters=sum(map(len, sentences)))
            lines.write("\n".join(sentences) + "\n\n")
            ids.write(document.id + "\n")
    return counts


def _sentences_of(document: Document) -> list[str]:
    return [sentence for paragraph in document.text.split("\n") for sentence in split_sentences(paragraph)]


def _split_at_full_marks(text: str) -> list[str]:
    texts = []
    start = 0
    for match in FULL.finditer(text):
        if text[match.end()] not in (GOES_ON_AFTER_QUOTATION if match[1] else GOES_ON):
            texts.append(text[start : match.end()].rstrip())
            start = match.end()
    return [*texts, text[start:]] if start < len(text) else texts


def _split_at_marks(text: str) -> list[str]:
    sentences = []
    start = 0
    for match in MARKS.finditer(text):
        if _ends_sentence(text, start, match):
            sentences.append(text[start : match.end() - 1])
            start = match.end()
    return [*sentences, text[start:]]


def _ends_sentence(text: str, start: int, match: "re.Match[str]") -> bool:
    """Whether the marks of `match` end the sentence that begins at `start`; another character follows them."""
    first = match.end()
    if not text[first].isalnum():
        beginning = BEGINNING.match(text, first)
        if beginning is None:
            return False
        first = beginning.end()
    if text[first].islower():
        return False
    marks = match.start()
    if text[marks] != "." or match.start(1) - marks > 1:
        return not (match[1] and _speech_goes_on(text, first))
    word = _word_before(text, start, marks)
    if word.lower() in KNOWN:
        return _ends_after_known(text, word, first)
    if word.isdigit():
        is_item_number = marks - start == len(word) <= LONGEST_ITEM_NUMBER
        return not is_item_number and _next_word(text, first).lower() not in AFTER_ORDINALS
    return not _is_initial_or_acronym(word) or _starter_follows(text, first)


def _ends_after_known(text: str, word: str, first: int) -> bool:
    lower = word.lower()
    if word in ABBREVIATIONS or lower in ABBREVIATIONS:
        return False
    if word in ENDING_ABBREVIATIONS or lower in ENDING_ABBREVIATIONS:
        return _starter_follows(text, first)
    return not (lower in BEFORE_NUMBERS and text[first].isdigit())


def _starter_follows(text: str, first: int) -> bool:
    """Whether the word at `first` has a capital and is one that begins sentences."""
    return text[first].isupper() and _next_word(text, first).lower() in STARTERS


def _word_before(text: str, start: int, end: int) -> str:
    """The word that ends at `end`, without what opens a quotation or follows a dash."""
    begin = max(start, end - LONGEST_WORD)
    word = text[max(begin, text.rfind(" ", begin, end) + 1) : end].lstrip(OPENING)
    return word if word.isalnum() else word.rpartition("--")[2].rpartition("—")[2]


def _next_word(text: str, first: int) -> str:
    """The word at `first`; nothing if that is an initial itself."""
    found = NEXT_WORD.match(text, first)
    if found is None or (len(found[0]) == 1 and text[found.end() : found.end() + 1] == "."):
        return ""
    return found[0]


def _is_initial_or_acronym(word: str) -> bool:
    """Such as "J", "U.S", "г": letters that have capitals, one at a time; not the pronoun "I"."""
    if len(word) > 1 and "." not in word:
        return False
    letters = word.split(".")
    return word != "I" and all(len(letter) == 1 and (letter.isupper() or letter.islower()) for letter in letters)


def _speech_goes_on(text: str, first: int) -> bool:
    """Whether it is told at `first` who said the quotation before it: "What?" Sara asked."""
    speaker = SPEAKER.match(text, first)
    if speaker is None or speaker[1] not in SPEECH_VERBS:
        return False
    name = speaker[0].split(" ", 1)[0]
    return name == "I" or name.lower() not in STARTERS
