"""Calibrations worked out by hand, kept and read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agentrm.config.schema import End
from agentrm.core.errors import ModelError
from agentrm.evaluation.calibration import FILE, Calibration, cross_fitted, read, write


def test_violators_are_pooled() -> None:
    # Of the values 1 and 2, and of 4, 5 and 6, the labels fall, so each gets their mean.
    fitted = Calibration.fit(np.array([6.0, 1, 2, 3, 4, 5]), np.array([0.6, 0.2, 0, 0.5, 0.9, 0.6]))
    assert fitted.values == [1, 2, 3, 4, 6]
    assert fitted.probabilities == pytest.approx([0.1, 0.1, 0.5, 0.7, 0.7])
    # Between the points a line, beyond them their ends.
    assert fitted([2.5, 5.0, -9.0, 9.0]).tolist() == pytest.approx([0.3, 0.7, 0.1, 0.7])


def test_a_pool_may_swallow_what_stood_before_it() -> None:
    fitted = Calibration.fit(np.array([1.0, 2, 3, 4]), np.array([0.5, 0.6, 0.0, 1.0]))
    assert fitted.probabilities == pytest.approx([1.1 / 3, 1.1 / 3, 1.0])
    assert fitted.values == [1, 3, 4]


def test_equal_values_have_one_probability_and_weigh_as_many() -> None:
    fitted = Calibration.fit(np.array([1.0, 1, 1, 2]), np.array([1.0, 1, 0, 0]))
    assert fitted.values == [1, 2] and fitted.probabilities == pytest.approx([0.5, 0.5])


def test_no_other_rising_line_is_nearer() -> None:
    random = np.random.default_rng(0)
    values, labels = random.normal(size=40), random.random(40)
    fitted = Calibration.fit(values, labels)
    assert np.all(np.diff(fitted.probabilities) >= 0) and np.all(np.diff(fitted.values) > 0)
    error = np.sum((fitted(values) - labels) ** 2)
    order = np.argsort(values)
    for _ in range(200):
        moved = np.maximum.accumulate(fitted(values)[order] + random.normal(size=40) * 0.02)
        assert np.sum((moved - labels[order]) ** 2) >= error - 1e-12


def test_trees_are_calibrated_by_those_of_other_tasks() -> None:
    values = [np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([0.0, 1.0])]
    labels = [np.array([0.0, 1.0]), np.array([0.0, 0.8]), np.array([0.2, 0.4])]
    # The first two trees are of one task, so each is calibrated by the third alone, and that by both of them.
    found = cross_fitted(values, labels, ["a", "a", "b"])
    assert found is not None
    assert [each.tolist() for each in found] == [[0.2, 0.4], [0.2, 0.4], pytest.approx([0.0, 0.9])]
    assert cross_fitted(values, labels, ["a", "a", "a"]) is None


def test_what_is_kept_beside_a_model_is_read_again(tmp_path: Path) -> None:
    assert read(tmp_path) == {}
    fitted = {End.action: Calibration([0.0, 1.5], [0.25, 0.75])}
    write(tmp_path, fitted)
    assert json.loads((tmp_path / FILE).read_text()) == {
        "action": {"values": [0.0, 1.5], "probabilities": [0.25, 0.75]}
    }
    assert read(tmp_path) == fitted


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"end": {}}', '{"state": {"values": [1]}}', '{"state": {"values": [1, 2], "probabilities": [1]}}'],
)
def test_a_file_that_holds_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ModelError, match=r"calibration\.json holds no calibration"):
        read(tmp_path)
