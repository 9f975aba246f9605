"""Bad and good input made from the service's own OpenAPI description: every answer is one that it announces."""

from __future__ import annotations

from collections.abc import Sequence

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from agentrm.config.schema import Serve
from agentrm.models.engine import Reading
from agentrm.models.scorers import Input, Per
from agentrm.service.api import create_app


async def score(inputs: Sequence[Input], per: Per) -> list[Reading]:
    return [Reading([0.5] * (1 if per is Per.input else 2), tokens=1, cached=0) for _ in inputs]


async def healthy() -> bool:
    return True


# What a schema cannot say is told by these: tools without messages, either of two fields, too much at once.
ACCEPTED = ["2xx", "413", "422"]
# Too much is refused before any of it is parsed.
REJECTED = ["400", "401", "404", "405", "413", "415", "422"]
CONFIG = SchemathesisConfig.from_dict(
    {
        "seed": 1,
        "checks": {
            "positive_data_acceptance": {"expected-statuses": ACCEPTED},
            "negative_data_rejection": {"expected-statuses": REJECTED},
        },
    }
)
APP = create_app(score, healthy, Serve(api_key="k", max_conversations=3), "a-model", context=1000)
schema = schemathesis.openapi.from_asgi("/openapi.json", APP, config=CONFIG)


@schema.parametrize()
@settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_announced(case: schemathesis.Case) -> None:
    case.call_and_validate(headers={"Authorization": "Bearer k"})
