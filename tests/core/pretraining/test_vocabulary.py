"""Reports as word numbers."""

from __future__ import annotations

import numpy as np

from core.pretraining.vocabulary import PAD, UNKNOWN, Vocabulary, words

REPORTS = ["No mass. No effusion.", "", "Right effusion, no mass."]


def test_words_are_lower_case_and_punctuation_counts() -> None:
    assert words("No mass, PA.") == ["no", "mass", ",", "pa", "."]


def test_rare_words_are_unknown() -> None:
    vocabulary = Vocabulary.of(REPORTS)
    assert vocabulary.known == (".", "no", "effusion", "mass")
    assert len(vocabulary) == UNKNOWN + 1 + 4
    assert Vocabulary.of(REPORTS, least=1).known[-2:] == (",", "right")


def test_reports_become_rows_of_equal_length() -> None:
    table = Vocabulary.of(REPORTS).encode(REPORTS)
    first = UNKNOWN + 1
    assert table.dtype == np.int64
    assert table[0].tolist() == [first + 1, first + 3, first, first + 1, first + 2, first]
    assert (table[1] == PAD).all()
    assert table[2].tolist() == [UNKNOWN, first + 2, UNKNOWN, first + 1, first + 3, first]
    assert Vocabulary.of(REPORTS).encode(REPORTS, longest=2).shape == (3, 2)
