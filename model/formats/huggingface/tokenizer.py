"""Hugging Face's tokenizer files <-> a vocab.txt and whether text is lower-cased."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertline.model.formats.case import infer_case
from bertline.model.formats.files import name_some, read_bytes, read_object, write_json
from bertline.model.training.checkpoint import Checkpoint
from bertline.tokenizer.wordpiece import CONTINUATION, MAX_WORD_CHARACTERS, Vocabulary, parse_vocabulary

VOCABULARY_FILE = "vocab.txt"
TOKENIZER_FILE, SETTINGS_FILE = "tokenizer.json", "tokenizer_config.json"
ADDED_FILE, SPECIAL_FILE = "added_tokens.json", "special_tokens_map.json"
SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
OUR_KIND = ("BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")


@dataclass(frozen=True)
class ReadTokenizer:
    """What a folder says of its text."""

    vocabulary: bytes  # of a vocab.txt with an entry for each row of the embeddings
    do_lower_case: bool
    remarks: list[str]


def read_tokenizer(folder: Path, vocab_size: int) -> ReadTokenizer:
    """The vocabulary, from vocab.txt or else tokenizer.json, and the case.

    Raises FileNotFoundError without either, ValueError for a tokenizer of another kind than WordPiece and for a
    vocabulary with more entries than `vocab_size`. One with fewer is filled up: our tables have as many rows as the
    vocabulary has lines.
    """
    settings = read_object(folder / SETTINGS_FILE) if (folder / SETTINGS_FILE).is_file() else {}
    fast = read_object(folder / TOKENIZER_FILE) if (folder / TOKENIZER_FILE).is_file() else {}
    if (folder / VOCABULARY_FILE).is_file():
        source, content = folder / VOCABULARY_FILE, read_bytes(folder / VOCABULARY_FILE)
    elif fast:
        source, content = folder / TOKENIZER_FILE, _extract_vocabulary(fast, folder / TOKENIZER_FILE)
    else:
        raise FileNotFoundError(f"{folder}: has no vocabulary, neither {VOCABULARY_FILE} nor {TOKENIZER_FILE}")
    vocabulary = parse_vocabulary(content, str(source))
    content, remarks = _fill_up(content, vocabulary, _read_added_tokens(folder, fast), vocab_size, source)
    do_lower_case, case_remarks = _infer_case(settings, fast, vocabulary, folder)
    remarks += case_remarks + _explain_other_rules(settings, fast, do_lower_case)
    return ReadTokenizer(content, do_lower_case, remarks)


def write_tokenizer(folder: Path, checkpoint: Checkpoint, vocabulary: Vocabulary) -> None:
    """Write vocab.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
    (folder / VOCABULARY_FILE).write_bytes(checkpoint.vocabulary)
    (folder / TOKENIZER_FILE).write_text(_make_fast_tokenizer(vocabulary, checkpoint.do_lower_case), encoding="utf-8")
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": checkpoint.do_lower_case,
        "model_max_length": checkpoint.bert_config.max_position_embeddings,
        "strip_accents": None,  # as do_lower_case says
        "tokenize_chinese_chars": True,
        **SPECIAL_TOKENS,
    }
    write_json(folder / SETTINGS_FILE, settings)
    write_json(folder / SPECIAL_FILE, SPECIAL_TOKENS)  # needed by fastembed and older programs


def _extract_vocabulary(fast: Mapping[str, Any], path: Path) -> bytes:
    model = fast.get("model") or {}
    prefix = model.get("continuing_subword_prefix", CONTINUATION)
    if model.get("type") != "WordPiece" or not isinstance(model.get("vocab"), dict) or prefix != CONTINUATION:
        raise ValueError(f"{path}: holds a {model.get('type')} tokenizer; only WordPiece with {CONTINUATION} is BERT's")
    tokens = {number: token for token, number in model["vocab"].items()}
    tokens |= {added["id"]: added["content"] for added in fast.get("added_tokens", []) if added["id"] not in tokens}
    if set(tokens) != set(range(len(tokens))):
        raise ValueError(
            f"{path}: does not number its {len(tokens)} tokens 0, 1, 2, ...; give a folder with {VOCABULARY_FILE}"
        )
    return "".join(f"{tokens[number]}\n" for number in range(len(tokens))).encode()


def _read_added_tokens(folder: Path, fast: Mapping[str, Any]) -> dict[int, str]:
    """Tokens that were added to a vocabulary, by id."""
    added = {token["id"]: token["content"] for token in fast.get("added_tokens", [])}
    if (folder / ADDED_FILE).is_file():
        added |= {number: token for token, number in read_object(folder / ADDED_FILE).items()}
    return added


def _fill_up(
    content: bytes, vocabulary: Vocabulary, added: Mapping[int, str], vocab_size: int, source: Path
) -> tuple[bytes, list[str]]:
    """The vocabulary with an entry for each row of the embeddings, which are often padded to a multiple of 8 or 64."""
    count = len(vocabulary)
    if count > vocab_size:
        raise ValueError(
            f"{source}: has {count} entries, but the configuration's vocab_size is {vocab_size}; "
            "take the vocabulary that belongs to these weights"
        )
    if count == vocab_size:
        return content, []
    taken = set(vocabulary.tokens)
    rows = [added.get(number) or _make_unused_name(number, taken) for number in range(count, vocab_size)]
    named = [added[number] for number in range(count, vocab_size) if added.get(number)]
    remarks = [f"{source.name} has {count} entries for {vocab_size} rows; filled up with [unused...] entries"]
    if named:
        remarks.append(
            f"added tokens ({name_some(named)}) keep their rows, but in a text they are split like other words"
        )
    end = b"" if content.endswith(b"\n") else b"\n"
    return content + end + "".join(f"{token}\n" for token in rows).encode(), remarks


def _make_unused_name(number: int, taken: set[str]) -> str:
    """A name that text never yields, since brackets stand alone, and that is not taken."""
    name = f"[unused{number}]"
    return name if name not in taken else f"[unused{number}_fill_up]"


def _infer_case(
    settings: Mapping[str, Any], fast: Mapping[str, Any], vocabulary: Vocabulary, folder: Path
) -> tuple[bool, list[str]]:
    if isinstance(settings.get("do_lower_case"), bool):
        return settings["do_lower_case"], []
    for rules in _list_normalizers(fast):
        if isinstance(rules.get("lowercase"), bool):
            return rules["lowercase"], []
    do_lower_case, remark = infer_case(vocabulary, folder, folder)
    return do_lower_case, [remark] if remark else []


def _list_normalizers(fast: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The steps of tokenizer.json's normalizer, one or a sequence."""
    normalizer = fast.get("normalizer") or {}
    return list(normalizer.get("normalizers", [normalizer]))


def _explain_other_rules(settings: Mapping[str, Any], fast: Mapping[str, Any], do_lower_case: bool) -> list[str]:
    """Remarks on rules of splitting that are not ours: the text is read, but a little otherwise."""
    rules: dict[str, Any] = {}
    for step in _list_normalizers(fast):
        rules |= {
            "strip_accents": step.get("strip_accents"),
            "tokenize_chinese_chars": step.get("handle_chinese_chars"),
        }
    rules |= {key: value for key, value in settings.items() if value is not None}
    remarks = []
    if rules.get("strip_accents") not in (None, do_lower_case):
        theirs, ours = ("strips", "keeps") if rules["strip_accents"] else ("keeps", "strips")
        remarks.append(f"its tokenizer {theirs} accents, ours {ours} them here; texts with accents give other pieces")
    if rules.get("tokenize_chinese_chars") is False:
        remarks.append(
            "its tokenizer does not split ideographs, ours does; Chinese and Japanese text gives other pieces"
        )
    if rules.get("do_basic_tokenize") is False:
        remarks.append("its tokenizer does not split punctuation (do_basic_tokenize false), ours does")
    kind = settings.get("tokenizer_class")
    if kind is not None and kind not in OUR_KIND:
        remarks.append(
            f"its tokenizer is a {kind}; ours splits words as BertTokenizer does, so text may give other pieces"
        )
    return remarks


def _make_fast_tokenizer(vocabulary: Vocabulary, do_lower_case: bool) -> str:
    """The content of tokenizer.json."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(
        models.WordPiece(
            dict(vocabulary.ids),
            unk_token="[UNK]",
            max_input_chars_per_word=MAX_WORD_CHARACTERS,  # not its 100
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=do_lower_case
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary.cls_id), ("[SEP]", vocabulary.sep_id)],
    )
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS.values()))
    return str(tokenizer.to_str(pretty=True))
