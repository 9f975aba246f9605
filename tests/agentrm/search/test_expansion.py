"""New children: equal actions and equal states become one, duplicates are sampled again, failures are left out."""

from __future__ import annotations

import asyncio

from agentrm.config.schema import Trees
from agentrm.core.state import Proposal, State
from agentrm.core.task import Grade, Observation, Task
from agentrm.core.tree import Node, Tree
from agentrm.search.expansion import expand
from agentrm.search.mcts import TreeSearch
from tests.agentrm.search.toy import BARE, TASK


class Rooms:
    """`go N` leads to room N, `walk N` as well; anything else changes nothing. Rooms 3 and 4 look alike."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    async def observe(self, task: Task, actions: tuple[str, ...]) -> Observation:
        self.asked.append(actions)
        room = await self.fingerprint(task, actions)
        return Observation("a red room" if room in "34" else f"room {room}", done=room == "9")

    async def fingerprint(self, task: Task, actions: tuple[str, ...]) -> str:
        room = "0"
        for action in actions:
            verb, _, number = action.partition(" ")
            room = number if verb in ("go", "walk") else room
        return room

    async def grade(self, task: Task, actions: tuple[str, ...]) -> Grade:
        return Grade(1.0, 1.0, True)


class Draws:
    """Hands out these actions in order, and keeps what it was asked for."""

    def __init__(self, *actions: str) -> None:
        self.actions = list(actions)
        self.asked: list[tuple[int, int]] = []

    async def propose(self, state: State, n: int, *, seed: int = 0, greedy: bool = False) -> list[Proposal]:
        self.asked.append((n, seed))
        taken, self.actions[:n] = self.actions[:n], []
        return [Proposal(action, action, tokens=1) for action in taken]


def expanded(policy: Draws, search: Trees, times: int = 1) -> Tree:
    rooms = Rooms()
    calls = TreeSearch(policy, rooms, rooms, search, BARE).calls(TASK)
    tree = Tree(TASK, [Node(-1, 0, "room 0")])
    for _ in range(times):
        asyncio.run(expand(tree, 0, search, calls))
        tree.nodes[0].expanded = True
    return tree


def children(tree: Tree) -> dict[str, int]:
    return {tree.nodes[i].action: tree.nodes[i].merged for i in tree.nodes[0].children}


def test_actions_are_merged_by_their_text():
    tree = expanded(Draws("go 1", "GO  1", "walk 1"), Trees(expansions=3))
    assert children(tree) == {"go 1": 2, "walk 1": 1}
    assert tree.nodes[0].sealed and tree.policy_tokens == 3 and tree.environment_steps == 2


def test_actions_are_merged_by_the_state_that_they_lead_to():
    search = Trees(expansions=5, merge_states=True)
    tree = expanded(Draws("go 1", "walk 1", "jump", "dance", "go 1"), search)
    assert children(tree) == {"go 1": 3, "jump": 2}


def test_states_that_look_alike_are_not_merged():
    tree = expanded(Draws("go 3", "go 4"), Trees(expansions=2, merge_states=True))
    assert len(children(tree)) == 2


def test_a_state_is_compared_with_a_child_that_a_rollout_left():
    search = Trees(expansions=2, merge_states=True)
    rooms = Rooms()
    calls = TreeSearch(Draws("walk 1", "go 2"), rooms, rooms, search, BARE).calls(TASK)
    tree = Tree(TASK, [Node(-1, 0, "room 0")])
    tree.add(0, Proposal("go 1", "go 1"), Observation("room 1"))
    asyncio.run(expand(tree, 0, search, calls))
    assert children(tree) == {"go 1": 2, "go 2": 1}


def test_duplicates_are_sampled_again_up_to_a_bound():
    policy = Draws("go 1", "go 1", "go 1", "go 1", "go 2", "go 2", "go 3")
    tree = expanded(policy, Trees(expansions=3, resamples=2))
    assert children(tree) == {"go 1": 4, "go 2": 2}
    # Each round asks for what is missing, with another seed.
    assert policy.asked == [(3, 0), (2, 1000), (1, 2000)]
    enough = Draws("go 1", "go 2", "go 3")
    expanded(enough, Trees(expansions=3, resamples=2))
    assert enough.asked == [(3, 0)]


def test_states_that_merge_are_sampled_again_too():
    policy = Draws("go 1", "walk 1", "go 2")
    tree = expanded(policy, Trees(expansions=2, resamples=1, merge_states=True))
    assert children(tree) == {"go 1": 2, "go 2": 1}


def test_widening_adds_one_action_and_seals_where_nothing_new_comes():
    policy = Draws("go 1", "go 2", "go 2", "go 3", "go 3", "go 1")
    search = Trees(expansions=2, widening=0.5, resamples=1)
    tree = expanded(policy, search, times=2)
    assert children(tree) == {"go 1": 1, "go 2": 2, "go 3": 1}
    assert not tree.nodes[0].sealed
    tree = expanded(Draws("go 1", "go 2", "go 2", "go 3", "go 3", "go 1"), search, times=3)
    assert tree.nodes[0].sealed and len(tree.nodes) == 4
