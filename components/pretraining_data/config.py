"""The settings of `prepare`: how sentences become training records."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertline.components.pretraining_data.files import PARTS, Part
from bertline.components.pretraining_data.instances import PAIRS, PackingRules, packing_rules
from bertline.model.records.masking import REPLACE_PER, MaskConfig, budgets
from bertline.model.records.reader import SCHEMAS
from bertline.settings import one_of, require_choices
from bertline.tokenizer.segment import find_module_file

SEMANTICS = ("fixed", "google")
MASKING = ("static", "dynamic")
EMPTY_PARTS = (("heldout", 0), ("train", 1))  # with that heldout_share
LEAST_SEQ_LENGTH = 8  # [CLS] A [SEP] B [SEP] with a few tokens in A and B
LARGEST_SEQ_LENGTH = 4096  # lengths are stored in 16 bits; rows of a block must fit a core's cache
LARGEST_NGRAM = 64
STATIC_DUPE_FACTOR, DYNAMIC_DUPE_FACTOR = 10, 1


@dataclass(frozen=True)
class PrepareConfig:
    """How sentences become training instances; defaults are those of create_pretraining_data unless noted."""

    # rows:
    max_seq_length: int = 128  # tokens of a row, [CLS] and both [SEP] among them
    short_seq_prob: float = 0.1  # chance of a shorter target length, for each pass over a document
    pairs: str = one_of("next_sentence", PAIRS)  # what the second segment is: the next sentences or random ones, the
    # same in swapped order (ALBERT), or none: full sentences of one document (RoBERTa, 4.2)
    random_next_prob: float = 0.5  # share of random pairs, or of swapped ones
    truncate_prob: float = 0.0  # chance that a segment is cut at random; google-research/bert's README advises 0.02
    dupe_factor: int = 0  # passes over the text, each with fresh pairs and masks; 0: 10, or 1 with dynamic masking
    do_lower_case: bool = True  # whether text is lower-cased and loses its accents, as for the vocabulary
    seed: int = 12345  # seed of all that is random

    # masks:
    max_predictions_per_seq: int = MaskConfig.max_predictions_per_seq  # masked tokens of a row, at most; 77 suits 512
    masked_lm_prob: float = MaskConfig.masked_lm_prob  # share of masked tokens; Devlin et al. 2018, 3.1
    masking: str = one_of("static", MASKING)  # when masks are drawn: once, or in training afresh in each epoch
    do_whole_word_mask: bool = True  # whether words are masked as a whole, as in the models released in 2019; the
    # original's default is False
    max_ngram: int = 1  # words masked together at most, n of them with a chance of 1/n; ALBERT has 3
    span_geometric_p: float = 0.0  # chance that a span ends after a word, in place of 1/n; SpanBERT has 0.2, and
    # max_ngram 10; 0: 1/n
    replace_per: str = one_of("piece", REPLACE_PER)  # what shares one of the outcomes [MASK], kept, random token
    segmenter: str = ""  # what finds the words of scripts without blanks: jieba, presegmented, spans, module:function
    semantics: str = one_of("fixed", SEMANTICS)  # whose rules: ours, or google's with the defects of the original, for
    # comparison

    # what is trained on and what is held out:
    part: str = one_of("train", PARTS)  # which documents; a document's id alone decides whether it is held out
    heldout_share: float = 0.05  # share of the documents that is never trained on

    # files:
    schema: str = one_of("canonical", SCHEMAS)  # how rows are stored: as run_pretraining.py reads them, or in half the
    # bytes and several times cheaper to read
    length_bins: str = ""  # widths below max_seq_length, such as 64,128,256: shorter rows go to files of their own and
    # are computed at that width; none: all at max_seq_length
    num_shards: int = 0  # files, made one at a time by a worker; 0: one for each 8 MB of text

    # the machine:
    num_workers: int = field(default=1, metadata={"volatile": True})  # processes on this machine; the records are the
    # same for any number
    runner: str = field(default="FnApiRunner", metadata={"volatile": True})  # Beam's runner, such as DataflowRunner; or
    # processes, for a pool of them without Beam
    beam_options: str = field(default="", metadata={"volatile": True})  # the runner's options: "--project=p --region=r"

    def __post_init__(self) -> None:
        """Refuse values that no run can mean."""
        self._require_ranges()
        require_choices(self)
        if self.masked_lm_prob == 0:
            raise ValueError("masked_lm_prob is 0; without masked tokens there is nothing to learn")
        if (self.part, self.heldout_share) in EMPTY_PARTS:
            advice = f"{'raise' if self.part == 'heldout' else 'lower'} heldout_share of all parts"
            raise ValueError(f'heldout_share is {self.heldout_share}; part "{self.part}" would be empty: {advice}')
        if self.max_predictions_per_seq > self.max_seq_length:
            raise ValueError(
                f"max_predictions_per_seq is {self.max_predictions_per_seq}, more than max_seq_length, "
                f"{self.max_seq_length}; 15 % of the length is usual"
            )
        if self.semantics == "google" and (self.pairs != "next_sentence" or self.truncate_prob or self.max_ngram > 1):
            raise ValueError(
                "semantics=google is the original's; it knows no other pairs, no truncate_prob and no max_ngram"
            )
        if self.segmenter and not self.do_whole_word_mask:
            raise ValueError("a segmenter is of no use with do_whole_word_mask=false; leave one of the two out")
        self._require_length_bins()

    def named_files(self) -> dict[str, Path]:
        """The module of one's own that segments; not what that imports."""
        module = find_module_file(self.segmenter) if ":" in self.segmenter else None
        return {} if module is None else {"segmenter": module}

    @property
    def part_of_text(self) -> Part:
        """Which documents are prepared."""
        return Part(self.part, self.heldout_share)

    @property
    def kind(self) -> str:
        """What the records are called."""
        return f"records{'_heldout' if self.part == 'heldout' else ''}_{self.max_seq_length}"

    @property
    def passes(self) -> int:
        """Passes over the corpus."""
        return self.dupe_factor or (DYNAMIC_DUPE_FACTOR if self.masking == "dynamic" else STATIC_DUPE_FACTOR)

    @property
    def bins(self) -> list[int]:
        """Widths of the rows, ascending, max_seq_length last."""
        return sorted({*map(int, self._given_bins()), self.max_seq_length})

    def bins_of(self, lengths: NDArray[np.integer], predictions: "NDArray[np.integer] | int" = 0) -> NDArray[np.intp]:
        """The narrowest bin that holds each row's tokens and predictions, [N]."""
        return np.maximum(np.searchsorted(self.bins, lengths), np.searchsorted(self.bin_predictions, predictions))

    @property
    def bin_predictions(self) -> list[int]:
        """max_predictions_per_seq of each bin: as many as a row of its length is to have; of the last, all."""
        most = budgets(self.mask_config(), self.max_seq_length)
        return [*most[self.bins[:-1]].tolist(), self.max_predictions_per_seq]

    def mask_config(self) -> MaskConfig:
        """How rows are masked."""
        return MaskConfig(
            max_predictions_per_seq=self.max_predictions_per_seq,
            masked_lm_prob=self.masked_lm_prob,
            max_ngram=self.max_ngram,
            span_geometric_p=self.span_geometric_p,
            replace_per=self.replace_per,
            google=self.semantics == "google",
        )

    def packing_rules(self) -> PackingRules:
        """How documents are packed into instances."""
        return packing_rules(
            self.pairs,
            seed=self.seed,
            dupe_factor=self.passes,
            max_seq_length=self.max_seq_length,
            short_seq_prob=self.short_seq_prob,
            random_next_prob=self.random_next_prob,
            truncate_prob=self.truncate_prob,
            google=self.semantics == "google",
        )

    def _given_bins(self) -> list[str]:
        return [each.strip() for each in self.length_bins.split(",") if each.strip()]

    def _require_length_bins(self) -> None:
        given = self._given_bins()
        if not all(each.isdecimal() and int(each) >= LEAST_SEQ_LENGTH for each in given):
            raise ValueError(
                f'length_bins is "{self.length_bins}"; give lengths of {LEAST_SEQ_LENGTH} or more: 128,256'
            )
        if self.bins[-1] > self.max_seq_length:
            raise ValueError(f'length_bins is "{self.length_bins}"; none may exceed {self.max_seq_length}')

    def _require_ranges(self) -> None:
        for name, least, most in (
            ("max_seq_length", LEAST_SEQ_LENGTH, LARGEST_SEQ_LENGTH),
            ("max_predictions_per_seq", 1, None),
            ("dupe_factor", 0, None),
            ("seed", 0, 2**63 - 1),
            ("max_ngram", 1, LARGEST_NGRAM),
            ("num_shards", 0, None),
            ("num_workers", 1, None),
        ):
            value = getattr(self, name)
            if value < least or (most is not None and value > most):
                limit = f"at least {least}" if most is None or value < least else f"at most {most}"
                raise ValueError(f"{name} is {value}; it must be {limit}")
        for name in (
            "masked_lm_prob", "short_seq_prob", "heldout_share", "random_next_prob", "truncate_prob", "span_geometric_p"
        ):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")
