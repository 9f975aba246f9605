"""Answer in OpenAI's form with the best of several candidates by a run's reward model, until Ctrl-C or stopped.

ray job submit -- python -m jobs.gateway --preset quickstart gateway.upstream=http://127.0.0.1:8001/v1
"""

from __future__ import annotations

import os
from dataclasses import replace

from actors.gateway import gateway
from agentrm import storage
from agentrm.config.schema import Config, is_endpoint
from agentrm.core.errors import UserError
from agentrm.models import openai_policy
from agentrm.run import RunDirectory
from jobs.runtime import cluster, main
from jobs.serve import check_port, follow, reward_model


def run(config: Config) -> None:
    """Deploy the reward model and the gateway, and block. Raises UserError for an upstream that is no address, without
    a reward model, without an upstream or a policy of the run's own, and when the address is taken.
    """
    settings = config.gateway
    if settings.upstream and not is_endpoint(settings.upstream):
        raise UserError(
            f"the key gateway.upstream is {settings.upstream!r}: it must be the address of an OpenAI-compatible "
            "endpoint, such as http://127.0.0.1:8001/v1, or empty for the run's own policy"
        )
    directory = reward_model(config)
    policy = "" if settings.upstream else RunDirectory.open(config).require("policy", "clone")
    if policy and openai_policy.FILE in storage.names(policy):
        policy, settings = "", replace(settings, upstream=config.model.source)
    if not (config.cluster.address or os.environ.get("RAY_ADDRESS")):
        check_port("gateway", settings.host, settings.port)
    config = replace(config, gateway=settings)
    with cluster(config), gateway(config, directory, policy) as exchange:
        name = settings.upstream or f"the run's own policy, {storage.name(config.run)},"
        print(f"the best of {settings.k} from {name} at {settings.url}/v1 until Ctrl-C", flush=True)
        follow(config, directory, exchange)


if __name__ == "__main__":
    main(run)
