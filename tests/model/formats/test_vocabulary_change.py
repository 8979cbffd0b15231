"""Another vocabulary for a model: what is shared is kept, what is new is made of what was there."""

import numpy as np
import pytest

from bertline.model.bert import initial_weights
from bertline.model.config import BertConfig, pretraining_shapes
from bertline.model.formats.vocabulary_change import OUTPUT_BIAS, TABLE, change_vocabulary, split_token
from bertline.model.training.checkpoint import Checkpoint
from bertline.tokenizer.wordpiece import parse_vocabulary

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
OLD = [*SPECIAL, "sun", "##day", "##s", "shine", "rain"]
NEW = [*SPECIAL, "rain", "sunday", "##days", "sun", "λ"]


def content(tokens: list[str]) -> bytes:
    return ("\n".join(tokens) + "\n").encode()


@pytest.fixture(scope="module")
def old() -> Checkpoint:
    config = BertConfig(len(OLD), 4, 1, 2, 8, max_position_embeddings=6)
    weights = initial_weights(pretraining_shapes(config), 0.5, seed=1)
    weights[OUTPUT_BIAS] = np.arange(len(OLD), dtype=np.float32)
    slots = {
        f"{name}/{slot}": np.full_like(array, 2.0) for name, array in weights.items() for slot in ("adam_m", "adam_v")
    }
    return Checkpoint(config, weights, content(OLD), True, {"step": 3}, slots)


def changed(old: Checkpoint, tokens: list[str]) -> tuple[Checkpoint, dict[str, int]]:
    vocabularies = (parse_vocabulary(content(names), "vocab.txt") for names in (OLD, tokens))
    return change_vocabulary(old, content(tokens), *vocabularies)


def test_rows_of_shared_pieces_move_with_them(old: Checkpoint) -> None:
    new, counts = changed(old, NEW)
    assert counts == {"kept": 7, "new": 3, "dropped": 3}
    assert (new.bert_config.vocab_size, new.vocabulary) == (len(NEW), content(NEW))
    for token in (*SPECIAL, "rain", "sun"):
        np.testing.assert_array_equal(new.weights[TABLE][NEW.index(token)], old.weights[TABLE][OLD.index(token)])
        assert new.weights[OUTPUT_BIAS][NEW.index(token)] == OLD.index(token)


def test_new_pieces_are_the_mean_of_the_old_ones_they_are_made_of(old: Checkpoint) -> None:
    new, _ = changed(old, NEW)
    for token, parts in {"sunday": ["sun", "##day"], "##days": ["##day", "##s"], "λ": OLD[5:]}.items():
        ids = [OLD.index(part) for part in parts]
        np.testing.assert_allclose(
            new.weights[TABLE][NEW.index(token)], old.weights[TABLE][ids].mean(axis=0), rtol=1e-6
        )
        assert new.weights[OUTPUT_BIAS][NEW.index(token)] == pytest.approx(np.mean(ids))


def test_everything_else_stays_and_slots_of_new_pieces_are_zero(old: Checkpoint) -> None:
    new, _ = changed(old, NEW)
    same = set(old.weights) - {TABLE, OUTPUT_BIAS}
    assert all(new.weights[name] is old.weights[name] for name in same)
    assert set(new.slots) == set(old.slots)
    fresh = [token in ("sunday", "##days", "λ") for token in NEW]
    np.testing.assert_array_equal(new.slots[f"{OUTPUT_BIAS}/adam_v"] == 0, fresh)
    assert new.slots[f"{TABLE}/adam_m"].shape == (len(NEW), 4)


def test_growing_and_shrinking_back_changes_nothing(old: Checkpoint) -> None:
    grown, _ = changed(old, [*OLD, "moon", "##light"])
    before, after = (parse_vocabulary(content(names), "vocab.txt") for names in ([*OLD, "moon", "##light"], OLD))
    back, counts = change_vocabulary(grown, content(OLD), before, after)
    assert counts == {"kept": len(OLD), "new": 0, "dropped": 2}
    assert all(np.array_equal(back.weights[name], old.weights[name]) for name in old.weights)


def test_the_same_vocabulary_is_refused(old: Checkpoint) -> None:
    with pytest.raises(ValueError, match="there is nothing to change"):
        changed(old, OLD)


@pytest.mark.parametrize(
    ("token", "pieces"),
    [("sundays", ["sun", "##day", "##s"]), ("##days", ["##day", "##s"]), ("sunlight", []), ("days", [])],
)
def test_a_piece_is_made_of_the_longest_that_match(token: str, pieces: list[str]) -> None:
    vocabulary = parse_vocabulary(content(OLD), "vocab.txt")
    assert [OLD[number] for number in split_token(token, vocabulary)] == pieces
