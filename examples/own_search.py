"""A test-time search of one's own, beside beam search, with a finished run's policy and its reward model behind HTTP.

agentrm serve                                                             # in another terminal
python examples/own_search.py runs/quickstart http://127.0.0.1:8000
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from agentrm import AsyncScoringClient, EnvironmentHost, Renderer, RunDirectory, State
from agentrm.config.tasks import tasks
from agentrm.models.policy import LanguageModelPolicy
from agentrm.models.transformers_generator import TransformersGenerator
from agentrm.search import Beam, Exploration, Opening, search


@dataclass(frozen=True, slots=True)
class BestFirst:
    """Always go on from the best open state of the whole tree, for some rounds: unlike a beam it can go back."""

    rounds: int
    branches: int
    guided = True

    @property
    def label(self) -> str:
        """See `Strategy`."""
        return f"best first, {self.rounds} rounds of {self.branches}"

    async def choose(self, explored: Exploration) -> int:
        """The best state of all that were reached."""
        reached, expanded = [0], set[int]()
        for _ in range(self.rounds):
            opened = [node for node in reached if explored.is_open(node) and node not in expanded]
            if not opened:
                break
            best = explored.ranked(opened)[0]
            expanded.add(best)
            fresh = await explored.expand([best], self.branches)
            reached += await explored.score(fresh)
            explored.report(fresh, [best])
        return explored.best(reached[1:] or reached)


class RemoteRewardModel:
    """The `RewardModel` that a scoring service is."""

    def __init__(self, client: AsyncScoringClient) -> None:
        self._client = client

    async def score(self, states: Sequence[State]) -> list[float]:
        """See `RewardModel`."""
        return await self._client.score([state.conversation() for state in states])


async def compare(run: str, url: str) -> None:
    """Run both searches on the run's first held-in task and print what they chose and how good it is."""
    directory = RunDirectory.existing(run)
    config = directory.config
    folder, context = directory.path("policy"), config.model.context
    renderer = Renderer.from_pretrained(folder, context)
    generator = TransformersGenerator(folder, config.sampling, context, renderer.stop_ids, "cpu")
    policy = LanguageModelPolicy(generator, renderer, config.model.action_format)
    opening = Opening(config.model.instructions, config.model.action_format)
    task = tasks(config.tasks.held_in, config.tasks.seed)[0]
    host = EnvironmentHost(deadline_s=config.hosts.deadline_s, max_sessions=16)
    print(task.id)
    try:
        async with AsyncScoringClient(url) as client:
            reward_model = RemoteRewardModel(client)
            for strategy in (Beam(2, 2), BestFirst(rounds=12, branches=2)):
                result = await search(strategy, task, policy, host, reward_model, config.evaluate, opening)
                # The searches cannot ask for it: the host's grade is for whoever measures them.
                grade = await host.grade(task, result.state.actions)
                print(f"{strategy.label}: outcome {grade.outcome:.2f}, {result.cost.scored_states} states scored")
                print(*(f"  {action}" for action in result.state.actions), sep="\n")
    finally:
        await host.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a finished run")
    parser.add_argument("url", help="where `agentrm serve` listens")
    arguments = parser.parse_args()
    asyncio.run(compare(arguments.run, arguments.url))
