"""How Ray Serve hands over a call that is meant for one replica."""

from __future__ import annotations

import random

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica


class Addressed(RequestRouter):
    """Sends a call to the replica whose id is the call's session, and to any while that one is full or gone.

    Serve ships this class by value: it must need nothing of this module's but what is imported here.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """In the order in which Serve tries them; it takes the one of a group that has the shortest queue."""
        named: list[RunningReplica] = []
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
            session = pending_request.metadata.session_id
            named = [replica for replica in candidate_replicas if replica.replica_id.unique_id == session]
        return [named, random.sample(candidate_replicas, min(2, len(candidate_replicas)))]
