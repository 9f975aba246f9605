"""Pairs, and which sequences are read together, worked out by hand."""

from __future__ import annotations

import numpy as np

from agentrm.data.pairs import ranked, together


def test_pairs_are_of_one_group_and_differ_by_more_than_a_tie() -> None:
    labels = [1.0, 0.0, 0.5, 0.53, 1.0]
    groups = ["a", "a", "b", "b", "a"]
    assert ranked(labels, groups).tolist() == [[0, 1], [4, 1]]
    assert ranked(labels, ["a"] * 5).tolist() == [[0, 1], [0, 2], [0, 3], [2, 1], [3, 1], [4, 1], [4, 2], [4, 3]]
    assert ranked([], []).shape == (0, 2)


def test_sequences_that_pairs_connect_are_read_together_while_there_is_room() -> None:
    rows = np.array([0, 1, 2, 3, 4])
    pairs = np.array([[0, 1], [2, 3], [1, 2]])
    lengths = [10, 8, 9, 7, 50]
    assert together(pairs, rows, lengths, 40).tolist() == [0, 0, 0, 0, 4]
    # Four rows of ten tokens do not fit, so the third pair stays apart.
    assert together(pairs, rows, lengths, 39).tolist() == [0, 0, 2, 2, 4]
    # Two sequences always may.
    assert together(pairs, rows, lengths, 1).tolist() == [0, 0, 2, 2, 4]


def test_pairs_within_one_sequence_connect_nothing() -> None:
    assert together(np.array([[0, 1]]), np.array([0, 0, 1]), [5, 5], 100).tolist() == [0, 1]
