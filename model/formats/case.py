"""Whether text is lower-cased before a vocabulary splits it, where nothing beside the vocabulary says so.

The original knows seven names of released models and believes the flag for all others, so that its own README's
commands feed lower-cased text to a cased model. The vocabulary itself tells.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from bertline.model.formats.files import read_object
from bertline.model.training.checkpoint import TOKENIZER_FILE
from bertline.tokenizer.normalize import strip_accents
from bertline.tokenizer.wordpiece import Vocabulary, is_marker

LOWER_NAMES = ("multilingual_L-12_H-768_A-12", "chinese_L-12_H-768_A-12")  # the original counts them as lower-cased
SHOWN = 3  # pieces named in a remark


def infer_case(vocabulary: Vocabulary, folder: Path, path: Path) -> tuple[bool, str | None]:
    """Whether text is lower-cased and stripped of accents; and how that was found, None where a file says so.

    A tokenizer_config.json in `folder` decides, else the vocabulary. Where the name of `folder`, or of the `path` that
    a person gave, says otherwise, the remark tells.
    """
    if (folder / TOKENIZER_FILE).is_file():
        said = read_object(folder / TOKENIZER_FILE).get("do_lower_case")
        if isinstance(said, bool):
            return said, None
    capitals, lower = vocabulary.capitals, not vocabulary.is_cased
    remark = f"text keeps its case: {len(capitals):,} of {len(vocabulary):,} pieces have capital letters"
    if lower:
        remark = _explain_lower_case(capitals, vocabulary)
    return lower, remark + _explain_other_name(lower, folder, path)


def explain_other_case(vocabulary: Vocabulary, do_lower_case: bool) -> str:
    """What a person should know who reads a vocabulary with another case than the model's own."""
    capitals = vocabulary.capitals
    effect = "as asked for"
    if do_lower_case and capitals:
        effect = f"{len(capitals):,} pieces with capital letters can then match nothing"
    elif not do_lower_case and not capitals:
        effect = "no piece has a capital letter, so words that have one are then unknown"
    return f"do_lower_case is {str(do_lower_case).lower()} in place of the model's own: {effect}"


def _explain_lower_case(capitals: Sequence[str], vocabulary: Vocabulary) -> str:
    """Why text is lower-cased, and which pieces it then never gives: they speak of another way of lower-casing."""
    remark = f"text is lower-cased and stripped of accents: none of {len(vocabulary):,} pieces has a capital letter"
    if capitals:
        remark = (
            f"text is lower-cased and stripped of accents: only {len(capitals):,} of {len(vocabulary):,} pieces "
            f"have capital letters ({_shorten(capitals)}), and can match nothing"
        )
    lost = [piece for piece in vocabulary.tokens if not is_marker(piece) and strip_accents(piece) != piece]
    if lost:
        remark += f"; stripping accents changes {len(lost):,} pieces ({_shorten(lost)}), which can match nothing either"
    return remark


def _shorten(pieces: Sequence[str]) -> str:
    return ", ".join(pieces[:SHOWN]) + (", ..." if len(pieces) > SHOWN else "")


def _explain_other_name(lower: bool, folder: Path, path: Path) -> str:
    """The end of a remark when a name says the opposite; else ""."""
    for name in (folder.name, path.name):
        if _guess_by_name(name) == (not lower):
            return f'; the name "{name}" says otherwise: check that the vocabulary belongs to this model'
    return ""


def _guess_by_name(name: str) -> bool | None:
    """What a name of a file or folder says; None for nothing."""
    if name.removesuffix(".zip") in LOWER_NAMES:
        return True
    words = re.split("[^a-z]+", name.lower())
    if "uncased" in words:
        return True
    return False if "cased" in words else None
