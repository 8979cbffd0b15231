"""Sentences -> ids of word pieces, in plain TensorFlow operations on the arrays of all sentences at once."""

from typing import Any, NamedTuple

import tensorflow as tf

from bertline.model.formats.savedmodel.preprocessing_tables import (
    ALONE,
    BLANK,
    CASED,
    CLASS,
    CLASSES,
    CODE_POINTS,
    DROPPED,
    FIRST_ROOT,
    IGNORABLE,
    MARK,
    NEXT_ROOT,
    PAGE,
    PUNCTUATION,
    character_tables,
    piece_tables,
)
from bertline.tokenizer.wordpiece import MAX_WORD_CHARACTERS, Vocabulary

CAPITAL_SIGMA, FINAL_SIGMA = 0x3A3, 0x3C2
NO_PIECE = -1

Tensor = Any


class GraphTokenizer:
    """Basic tokenization and WordPiece of all sentences at once, on flat arrays of code points, int64 [letters]."""

    def __init__(self, vocabulary: Vocabulary, do_lower_case: bool) -> None:
        self._do_lower_case = do_lower_case
        self._unknown = vocabulary.unk_id
        arrays = {**vars(character_tables(do_lower_case)), **vars(piece_tables(vocabulary))}
        self.tables = {name: tf.Variable(array, trainable=False, name=name) for name, array in arrays.items()}

    def tokenize(self, sentences: Tensor) -> Tensor:
        """The ids of string [batch], ragged int32 [batch, (words), (pieces)]."""
        characters = tf.strings.unicode_decode(sentences, "UTF-8", errors="ignore")
        rows, letters = characters.value_rowids(), tf.cast(characters.values, tf.int64)
        rows, letters = _keep(~self._has(letters, DROPPED), rows, letters)
        stretches, rows, letters = self._stretches(rows, letters)
        if self._do_lower_case:
            letters, source = self._lower_case(letters, stretches)
            rows, stretches = tf.gather(rows, source), tf.gather(stretches, source)
        words, rows, letters = self._words(stretches, rows, letters)
        places, ids = self._pieces(words, letters)
        word_rows = tf.boolean_mask(rows, _begins(words))
        by_word = tf.RaggedTensor.from_value_rowids(
            ids, tf.gather(words, places), tf.size(word_rows, tf.int64), validate=False
        )
        return tf.RaggedTensor.from_value_rowids(by_word, word_rows, tf.size(sentences, tf.int64), validate=False)

    def _stretches(self, rows: Tensor, letters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers of the stretches between blanks, ideographs alone, that are lower-cased as a whole."""
        blank = self._has(letters, BLANK)
        apart = blank | self._has(letters, ALONE)
        stretches = _number_runs(_beside(apart) | _changes(rows))
        return _keep(~blank, stretches, rows, letters)

    def _words(self, stretches: Tensor, rows: Tensor, letters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The number of each letter's word, punctuation marks alone; what turned into a blank is left out."""
        blank = self._has(letters, BLANK)
        apart = blank | self._has(letters, PUNCTUATION)
        words = _number_runs(_beside(apart) | _changes(stretches))
        words, rows, letters = _keep(~blank, words, rows, letters)
        return _number_runs(_changes(words)), rows, letters

    def _lower_case(self, letters: Tensor, stretches: Tensor) -> tuple[Tensor, Tensor]:
        """Lower-cased letters without accents, and the place of the letter that each comes from."""
        letters = _choose(self._ends_word(letters, stretches) & (letters == CAPITAL_SIGMA), FINAL_SIGMA, letters)
        number = _search(self.tables["changed"], letters)
        changes = tf.gather(self.tables["changed"], number) == letters
        starts = tf.gather(self.tables["letter_starts"], number)
        count = _choose(changes, tf.gather(self.tables["letter_starts"], number + 1) - starts, 1)
        source = tf.repeat(tf.range(tf.size(letters, tf.int64)), count)
        offset = tf.range(tf.size(source, tf.int64)) - tf.gather(tf.cumsum(count, exclusive=True), source)
        changed, place = tf.gather(changes, source), tf.gather(starts, source) + offset
        # What does not change needs no place; 0 is a valid one.
        new = tf.gather(self.tables["letters"], _choose(changed, place, 0))
        spelt = _choose(changed, new, tf.gather(letters, source))
        spelt, source = self._in_canonical_order(spelt, source, stretches)
        return _keep(~self._has(spelt, MARK), spelt, source)

    def _ends_word(self, letters: Tensor, stretches: Tensor) -> Tensor:
        """Where a sigma is a final one: after a cased letter of its stretch and before none, ignorable ones aside."""
        properties = self._properties(letters)
        counts = (properties & IGNORABLE) == 0
        number = _number_runs(counts)  # of the letters that count, up to each one
        # A placeholder that belongs to no stretch stands behind the last letter; it serves before the first one, too.
        cased = tf.concat([tf.boolean_mask((properties & CASED) != 0, counts), [False]], 0)
        owner = tf.concat([tf.boolean_mask(stretches, counts), [-1]], 0)
        placeholder = tf.size(owner, tf.int64) - 1

        def is_cased(neighbour: Tensor) -> Tensor:
            neighbour = _choose(neighbour < 0, placeholder, neighbour)
            return (tf.gather(owner, neighbour) == stretches) & tf.gather(cased, neighbour)

        before = number - tf.cast(counts, tf.int64) - 1
        return is_cased(before) & ~is_cased(number)

    def _in_canonical_order(self, letters: Tensor, source: Tensor, stretches: Tensor) -> tuple[Tensor, Tensor]:
        """Runs of combining characters sorted by their class, as NFD has them.

        Most are accents, which will go; only for the few that stay it matters where.
        """
        properties = self._properties(letters)
        rank = tf.cast(properties // CLASS, tf.int64)
        stays = (rank > 0) & ((properties & MARK) == 0)
        runs = _number_runs((rank == 0) | _changes(tf.gather(stretches, source)))

        def sorted_by_class() -> tuple[Tensor, Tensor]:
            order = tf.argsort(runs * CLASSES + rank, stable=True)
            return tf.gather(letters, order), tf.gather(source, order)

        return tuple(tf.cond(tf.reduce_any(stays), sorted_by_class, lambda: (letters, source)))

    def _properties(self, letters: Tensor) -> Tensor:
        page = tf.gather(self.tables["page_numbers"], letters // PAGE)
        inside = tf.cast(letters % PAGE, tf.int32)
        return tf.gather_nd(self.tables["pages"], tf.stack([page, inside], axis=1))

    def _has(self, letters: Tensor, flag: int) -> Tensor:
        return (self._properties(letters) & flag) != 0

    def _pieces(self, words: Tensor, letters: Tensor) -> tuple[Tensor, Tensor]:
        """Greedy longest match: the places in `letters` where pieces begin, and the pieces' ids, int32."""
        total = tf.size(letters, tf.int64)
        starts = tf.where(_begins(words))[:, 0]  # [words]
        ends = tf.concat([starts, [total]], 0)[1:]
        failed = ends - starts > MAX_WORD_CHARACTERS
        walk = _Walk(
            found=tf.fill([total], tf.constant(NO_PIECE, tf.int64)),
            failed=failed,
            word=tf.where(~failed)[:, 0],
            begin=tf.boolean_mask(starts, ~failed),
            place=tf.boolean_mask(starts, ~failed),
            node=tf.fill([tf.reduce_sum(tf.cast(~failed, tf.int32))], tf.constant(FIRST_ROOT, tf.int64)),
            piece=tf.fill([tf.reduce_sum(tf.cast(~failed, tf.int32))], tf.constant(NO_PIECE, tf.int64)),
            piece_end=tf.boolean_mask(starts, ~failed),
        )
        flat = [tf.TensorShape([None])] * len(walk)
        walk = tf.while_loop(
            lambda *walk: tf.size(_Walk(*walk).word) > 0,
            lambda *walk: self._step(_Walk(*walk), letters, ends),
            walk,
            shape_invariants=_Walk(*flat),
        )
        whole = _choose(tf.gather(walk.failed, words), NO_PIECE, walk.found)
        unknown = tf.boolean_mask(starts, walk.failed)
        whole = tf.tensor_scatter_nd_update(
            whole, unknown[:, None], tf.fill(tf.shape(unknown), tf.constant(self._unknown, tf.int64))
        )
        places = tf.where(whole != NO_PIECE)[:, 0]
        return places, tf.cast(tf.gather(whole, places), tf.int32)

    def _step(self, walk: "_Walk", letters: Tensor, ends: Tensor) -> "_Walk":
        """One letter further in every word; where none fits, the longest piece so far is taken, or the word fails."""
        end = tf.gather(ends, walk.word)
        inside = walk.place < end
        edge = walk.node * CODE_POINTS + tf.gather(letters, _choose(inside, walk.place, walk.begin))
        number = _search(self.tables["edges"], edge)
        fits = inside & (tf.gather(self.tables["edges"], number) == edge)
        node = _choose(fits, tf.gather(self.tables["targets"], number), walk.node)
        place = walk.place + tf.cast(fits, tf.int64)
        ended = _choose(fits, tf.gather(self.tables["ids"], node), NO_PIECE)
        piece = _choose(ended != NO_PIECE, ended, walk.piece)
        piece_end = _choose(ended != NO_PIECE, place, walk.piece_end)
        taken, lost = ~fits & (piece != NO_PIECE), ~fits & (piece == NO_PIECE)
        found = tf.tensor_scatter_nd_update(
            walk.found, tf.boolean_mask(walk.begin, taken)[:, None], tf.boolean_mask(piece, taken)
        )
        failed = tf.tensor_scatter_nd_update(
            walk.failed, tf.boolean_mask(walk.word, lost)[:, None], tf.boolean_mask(lost, lost)
        )
        goes_on = ~lost & ~(taken & (piece_end == end))
        return _Walk(
            found,
            failed,
            *_keep(
                goes_on,
                walk.word,
                _choose(taken, piece_end, walk.begin),
                _choose(taken, piece_end, place),
                _choose(taken, NEXT_ROOT, node),
                _choose(taken, NO_PIECE, piece),
                piece_end,
            ),
        )


class _Walk(NamedTuple):
    """How far the search for pieces has come, in the words that are not yet done."""

    found: Tensor  # [letters], the piece that begins there, or NO_PIECE
    failed: Tensor  # [all words], whether a word is unknown
    word: Tensor  # [words], their numbers
    begin: Tensor  # [words], where the piece that is looked for begins
    place: Tensor  # [words], the next letter
    node: Tensor  # [words], what was read of the piece
    piece: Tensor  # [words], the longest piece so far, or NO_PIECE
    piece_end: Tensor  # [words], the letter after it


def _search(ascending: Tensor, values: Tensor) -> Tensor:
    """The place of each value, and any place for one that is not there."""
    place = tf.searchsorted(ascending, values, out_type=tf.int64)
    return tf.minimum(place, tf.size(ascending, tf.int64) - 1)


def _choose(mask: Tensor, these: Tensor, others: Tensor) -> Tensor:
    """Elements of one or the other, int64."""
    return tf.where(mask, tf.convert_to_tensor(these, tf.int64), tf.convert_to_tensor(others, tf.int64))


def _keep(mask: Tensor, *arrays: Tensor) -> Any:
    """The elements of each array where the mask holds."""
    places = tf.where(mask)[:, 0]
    return [tf.gather(array, places) for array in arrays]


def _number_runs(begins: Tensor) -> Tensor:
    """Numbers that grow by one wherever something begins."""
    return tf.cumsum(tf.cast(begins, tf.int64))


def _changes(array: Tensor) -> Tensor:
    """Where an element differs from the one before it; the first one does not."""
    return tf.concat([array[:1] != array[:1], array[1:] != array[:-1]], 0)


def _begins(array: Tensor) -> Tensor:
    """Where a run of equal elements begins."""
    return tf.concat([array[:1] == array[:1], array[1:] != array[:-1]], 0)


def _beside(apart: Tensor) -> Tensor:
    """Where an element that stands apart begins, or follows one."""
    return tf.concat([apart[:1], apart[1:] | apart[:-1]], 0)
