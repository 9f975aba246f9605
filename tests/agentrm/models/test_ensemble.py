from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from agentrm.core.errors import ModelError
from agentrm.models import ensemble
from agentrm.models.ensemble import lower_confidence, member


def test_disagreement_costs() -> None:
    members = [[0.6, 0.9, 0.0], [0.6, 0.5, -math.inf]]
    # Means 0.6 and 0.7, deviations 0 and 0.2.
    assert lower_confidence(members, 1.0) == pytest.approx([0.6, 0.5, -math.inf])
    assert lower_confidence(members, 0.0) == pytest.approx([0.6, 0.7, -math.inf])
    assert lower_confidence(members[:1], 5.0) == members[0]


def test_a_directory_says_who_its_members_are(tmp_path: Path) -> None:
    for number in range(3):
        each = Path(member(str(tmp_path), number))
        each.mkdir(parents=True, exist_ok=True)
        (each / "config.json").write_text(json.dumps({"number": number}))
    assert ensemble.described(tmp_path) == ([tmp_path], 0.0)
    ensemble.describe(tmp_path, 3, 0.5)
    found, penalty = ensemble.described(tmp_path)
    assert penalty == 0.5
    assert [json.loads((each / "config.json").read_text())["number"] for each in found] == [0, 1, 2]
    (found[2] / "config.json").unlink()
    with pytest.raises(ModelError, match="members/2, where there is no model"):
        ensemble.described(tmp_path)
    ensemble.alone(tmp_path)
    assert ensemble.described(tmp_path) == ([tmp_path], 0.0)
    assert json.loads((tmp_path / "config.json").read_text()) == {"number": 0}
    assert not (tmp_path / "members").exists()
