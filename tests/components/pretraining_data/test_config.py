"""The settings of prepare."""

import pytest

from bertline.components.pretraining_data.config import PrepareConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_seq_length": 7}, "max_seq_length is 7; it must be at least 8"),
        ({"max_seq_length": 5000}, "max_seq_length is 5000; it must be at most 4096"),
        ({"max_predictions_per_seq": 0}, "max_predictions_per_seq is 0; it must be at least 1"),
        ({"max_predictions_per_seq": 129}, "max_predictions_per_seq is 129, more than max_seq_length, 128"),
        ({"dupe_factor": -1}, "dupe_factor is -1"),
        ({"num_shards": -1}, "num_shards is -1"),
        ({"num_workers": 0}, "num_workers is 0"),
        ({"max_ngram": 0}, "max_ngram is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"masked_lm_prob": 0.0}, "masked_lm_prob is 0"),
        ({"masked_lm_prob": 1.5}, r"masked_lm_prob is 1\.5; it must lie between 0 and 1"),
        ({"masked_lm_prob": float("nan")}, "masked_lm_prob is nan"),
        ({"short_seq_prob": -0.1}, r"short_seq_prob is -0\.1"),
        ({"heldout_share": 2.0}, r"heldout_share is 2\.0"),
        ({"part": "heldout", "heldout_share": 0.0}, r'heldout_share is 0\.0; part "heldout" would be empty: raise'),
        ({"part": "train", "heldout_share": 1.0}, r'heldout_share is 1\.0; part "train" would be empty: lower'),
        ({"random_next_prob": 1.01}, r"random_next_prob is 1\.01"),
        ({"truncate_prob": -1.0}, r"truncate_prob is -1\.0"),
        ({"span_geometric_p": 2.0}, r"span_geometric_p is 2\.0"),
        ({"part": "test"}, 'part is "test"; known: train, heldout, all'),
        ({"semantics": "exact"}, 'semantics is "exact"; known: fixed, google'),
        ({"pairs": "nsp"}, 'pairs is "nsp"; known: next_sentence, sentence_order, none'),
        ({"replace_per": "token"}, 'replace_per is "token"; known: piece, word, span'),
        ({"masking": "on"}, 'masking is "on"; known: static, dynamic'),
        ({"schema": "parquet"}, 'schema is "parquet"; known: canonical, compact'),
        ({"length_bins": "64,x"}, 'length_bins is "64,x"; give lengths of 8 or more'),
        ({"length_bins": "4"}, 'length_bins is "4"; give lengths of 8 or more'),
        ({"length_bins": "64,256"}, "none may exceed 128"),
        ({"semantics": "google", "pairs": "none"}, "semantics=google is the original's"),
        ({"segmenter": "jieba", "do_whole_word_mask": False}, "a segmenter is of no use"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PrepareConfig(**settings)


def test_passes_depend_on_how_rows_are_masked():
    assert PrepareConfig().passes == 10
    assert PrepareConfig(masking="dynamic").passes == 1
    assert PrepareConfig(masking="dynamic", dupe_factor=3).passes == 3


def test_bins_end_with_the_whole_length():
    assert PrepareConfig(max_seq_length=512, length_bins="256, 128").bins == [128, 256, 512]
    assert PrepareConfig().bins == [128]
