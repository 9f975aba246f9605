"""Answer in OpenAI's form with the best of several candidates by a run's reward model, until Ctrl-C or stopped.

ray job submit -- python -m jobs.gateway --preset quickstart gateway.upstream=http://127.0.0.1:8001/v1
"""

from __future__ import annotations

import os

from actors.gateway import gateway
from agentrm.config.schema import Config, is_endpoint
from agentrm.core.errors import UserError
from jobs.runtime import cluster, main
from jobs.serve import address, check_port, follow, reward_model


def run(config: Config) -> None:
    """Deploy the reward model and the gateway, and block. Raises UserError without an upstream or a reward model, and
    when the address is taken.
    """
    settings = config.gateway
    if not is_endpoint(settings.upstream):
        raise UserError(
            f"the key gateway.upstream is {settings.upstream!r}: it must be the address of an OpenAI-compatible "
            "endpoint, such as http://127.0.0.1:8001/v1"
        )
    directory = reward_model(config)
    if not (config.cluster.address or os.environ.get("RAY_ADDRESS")):
        check_port("gateway", settings.host, settings.port)
    with cluster(config), gateway(config, directory) as replace:
        url = address(settings.host, settings.port)
        print(f"the best of {settings.k} from {settings.upstream} at {url}/v1 until Ctrl-C", flush=True)
        follow(config, directory, replace)


if __name__ == "__main__":
    main(run)
