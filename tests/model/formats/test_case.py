"""The case of a vocabulary is told by its pieces, unless a file says it; names and flags that disagree are told."""

from pathlib import Path

import pytest

from bertline.model.formats.case import explain_other_case, infer_case
from bertline.tokenizer.wordpiece import SPECIAL_TOKENS, Vocabulary

LOWER = [*SPECIAL_TOKENS, "[unused0]", "<S>", "<T>", "the", "##ing", "cafe", "1", "##,", "\u4e2d"]
CASED = [*LOWER, "The", "Paris"]
NOTHING_SAID = Path("models/mine")


def vocabulary(*pieces: str) -> Vocabulary:
    return Vocabulary(pieces)


def case(pieces: list[str], folder: Path = NOTHING_SAID, path: Path = NOTHING_SAID) -> tuple[bool, str | None]:
    return infer_case(vocabulary(*pieces), folder, path)


def test_markers_have_no_case() -> None:
    assert vocabulary(*CASED).capitals == ("The", "Paris")


def test_a_vocabulary_without_capitals_is_lower_cased() -> None:
    assert case(LOWER) == (True, "text is lower-cased and stripped of accents: none of 14 pieces has a capital letter")


def test_a_vocabulary_with_capitals_is_cased() -> None:
    assert case(CASED) == (False, "text keeps its case: 2 of 16 pieces have capital letters")
    assert case([*LOWER, "\u041c\u043e\u0441\u043a\u0432\u0430"])[0] is False  # Moscow in Russian


def test_a_few_capitals_among_many_pieces_are_dead_ones() -> None:
    words = [f"word{number}" for number in range(1000)]
    assert case([*LOWER, *words, "COVID", "NASA", "HIV", "EU"]) == (
        True,
        "text is lower-cased and stripped of accents: only 4 of 1,018 pieces have capital letters (COVID, NASA, HIV, "
        "...), and can match nothing",
    )


def test_single_capitals_alone_make_a_vocabulary_cased() -> None:
    words = [f"\u4e2d{number}" for number in range(5000)]
    assert case([*LOWER, *words, *"ABCDEFGHIJKLM"]) == (
        False,
        "text keeps its case: 13 of 5,027 pieces have capital letters",
    )


def test_accents_of_a_lower_cased_vocabulary_are_told() -> None:
    assert case([*LOWER, "caf\u00e9", "\ud55c"]) == (
        True,
        "text is lower-cased and stripped of accents: none of 16 pieces has a capital letter; stripping accents "
        "changes 2 pieces (caf\u00e9, \ud55c), which can match nothing either",
    )


@pytest.mark.parametrize("said", [True, False])
def test_a_file_beside_it_decides(said: bool, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(f'{{"do_lower_case": {str(said).lower()}}}')
    assert case(CASED, tmp_path, tmp_path / "uncased.zip") == (said, None)


def test_a_file_that_does_not_say_it_does_not_decide(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    assert case(CASED, tmp_path)[0] is False
    (tmp_path / "tokenizer_config.json").write_text("lower, please")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: not a JSON file"):
        case(CASED, tmp_path)


@pytest.mark.parametrize(
    ("pieces", "folder", "path"),
    [
        (LOWER, "cased_L-12_H-768_A-12", "bert_model.ckpt"),
        (LOWER, "inner", "wwm_cased_L-24_H-1024_A-16.zip"),
        (LOWER, "inner", "multi_cased_L-12_H-768_A-12.zip"),
        (CASED, "bert-base-uncased", "bert_model.ckpt"),
        (CASED, "inner", "chinese_L-12_H-768_A-12.zip"),
        (CASED, "multilingual_L-12_H-768_A-12", "bert_model.ckpt"),
    ],
)
def test_a_name_that_says_otherwise_is_told(pieces: list[str], folder: str, path: str) -> None:
    lower, remark = case(pieces, Path(folder), Path(path))
    assert lower == (pieces is LOWER)
    name = path if folder == "inner" else folder
    assert str(remark).endswith(f'; the name "{name}" says otherwise: check that the vocabulary belongs to this model')


@pytest.mark.parametrize("name", ["uncased_L-12_H-768_A-12", "wwm_uncased_L-24_H-1024_A-16", "showcased", "mine"])
def test_a_name_that_agrees_or_says_nothing_is_not_told(name: str) -> None:
    assert "otherwise" not in str(case(LOWER, Path(name), Path(f"{name}.zip"))[1])


def test_what_another_case_means_is_told() -> None:
    assert explain_other_case(vocabulary(*CASED), do_lower_case=True) == (
        "do_lower_case is true in place of the model's own: 2 pieces with capital letters can then match nothing"
    )
    assert explain_other_case(vocabulary(*LOWER), do_lower_case=False) == (
        "do_lower_case is false in place of the model's own: no piece has a capital letter, so words that have one "
        "are then unknown"
    )
    assert explain_other_case(vocabulary(*LOWER), do_lower_case=True) == (
        "do_lower_case is true in place of the model's own: as asked for"
    )
