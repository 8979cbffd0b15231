"""The settings of `prepare`: how sentences become training records."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertline.components.pretraining_data.files import PARTS, Part
from bertline.components.pretraining_data.instances import PAIRS, PackingRules, packing_rules
from bertline.model.records.masking import REPLACE_PER, MaskConfig, budgets
from bertline.model.records.reader import SCHEMAS
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

    max_seq_length: int = 128  # tokens of a row, [CLS] and both [SEP] among them
    max_predictions_per_seq: int = MaskConfig.max_predictions_per_seq  # masked tokens of a row, at most; 77 suits 512
    masked_lm_prob: float = MaskConfig.masked_lm_prob  # share of masked tokens; Devlin et al. 2018, 3.1
    short_seq_prob: float = 0.1  # chance of a shorter target length, for each pass over a document
    dupe_factor: int = 0  # passes over the corpus, each with fresh pairs and masks; 0: 10, or 1 with dynamic masking
    do_whole_word_mask: bool = True  # as the models released in 2019; the original's default is False
    do_lower_case: bool = True  # lower-case the text; must be what the vocabulary was made with
    seed: int = 12345  # of everything random
    part: str = "train"  # train, heldout or all; which documents are held out depends on their ids alone
    heldout_share: float = 0.05  # of the documents that is never trained on
    semantics: str = "fixed"  # fixed, or google: with the defects of the original, for comparison
    pairs: str = "next_sentence"  # or sentence_order (ALBERT), or none: full sentences of one document (RoBERTa, 4.2)
    random_next_prob: float = 0.5  # share of random pairs, or of swapped ones
    truncate_prob: float = 0.0  # of a segment being cut at random; google-research/bert's README advises 0.02
    max_ngram: int = 1  # words masked together at most, n with a chance of 1/n; ALBERT has 3
    span_geometric_p: float = 0.0  # n words with geometric chances instead; SpanBERT has 0.2 and max_ngram 10
    replace_per: str = "piece"  # what shares one of [MASK], same, random: piece, word or span
    segmenter: str = ""  # words of scripts without blanks: jieba, presegmented, spans, module:function
    masking: str = "static"  # or dynamic: rows are stored unmasked, and masked afresh in each epoch
    schema: str = "canonical"  # or compact: half the size, several times cheaper to read; of static rows
    length_bins: str = ""  # such as 128,256: rows of at most so many tokens go to files of their own
    num_shards: int = 0  # files, made one at a time by a worker; 0: one for each 8 MB of text
    num_workers: int = field(default=1, metadata={"volatile": True})  # processes on this machine
    runner: str = field(default="FnApiRunner", metadata={"volatile": True})  # or any that Beam knows, as DataflowRunner
    beam_options: str = field(default="", metadata={"volatile": True})  # for the runner: "--project=p --region=r ..."

    def __post_init__(self) -> None:
        """Refuse values that no run can mean."""
        self._require_ranges()
        self._require_known_names()
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

    def _require_known_names(self) -> None:
        for name, known in (
            ("part", PARTS),
            ("semantics", SEMANTICS),
            ("pairs", PAIRS),
            ("replace_per", REPLACE_PER),
            ("masking", MASKING),
            ("schema", SCHEMAS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f'{name} is "{getattr(self, name)}"; it must be one of {", ".join(known)}')
