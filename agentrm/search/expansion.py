"""New actions at a node: sample, merge what is one action or leads to one state, sample again for what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agentrm.config.schema import Trees
from agentrm.core.errors import EnvironmentFailure
from agentrm.core.state import Proposal
from agentrm.core.task import Observation
from agentrm.core.tree import Tree, normalise
from agentrm.search.calls import Calls
from agentrm.search.selection import width


async def expand(tree: Tree, index: int, search: Trees, calls: Calls) -> list[int]:
    """Sample up to `width` distinct actions below a node; returns the new children.

    The first sampling draws `expansions` turns. Where merging leaves fewer actions than the node may have, it draws the
    rest again, `resamples` times at most. An action that the environment fails at is counted and left out. Raises
    ModelError.
    """
    node = tree.nodes[index]
    wanted = max(width(node, search), len(node.children) + 1) if node.expanded else search.expansions
    missing = wanted - len(node.children) if node.expanded else search.expansions
    fresh: list[int] = []
    for _ in range(1 + search.resamples):
        new = merge(tree, index, await calls.sample(tree, index, missing))
        fresh += await _add(tree, index, new, search, calls)
        missing = wanted - len(node.children)
        if missing <= 0:
            break
    node.sealed = not (search.widening and fresh)
    return fresh


def merge(tree: Tree, index: int, proposals: Sequence[Proposal]) -> list[tuple[Proposal, int]]:
    """Distinct new proposals below a node with the number of samples each stands for; known children are counted up."""
    new: dict[str, tuple[Proposal, int]] = {}
    for proposal in proposals:
        known = tree.child(index, proposal.action)
        if known is not None:
            tree.nodes[known].merged += 1
            continue
        key = normalise(proposal.action)
        first, count = new.get(key, (proposal, 0))
        new[key] = first, count + 1
    return list(new.values())


async def _add(tree: Tree, index: int, new: Sequence[tuple[Proposal, int]], search: Trees, calls: Calls) -> list[int]:
    actions = tree.actions(index)

    async def answer(proposal: Proposal) -> tuple[Observation, str] | None:
        try:
            following = (*actions, proposal.action)
            observation = await calls.observe(tree, following)
            return observation, await calls.fingerprint(following) if search.merge_states else ""
        except EnvironmentFailure as error:
            tree.count(error)
            return None

    if search.merge_states:
        await _identify_children(tree, index, actions, calls)
    answers = await asyncio.gather(*(answer(proposal) for proposal, _ in new))
    fresh = []
    for (proposal, count), answered in zip(new, answers, strict=True):
        if answered is None:
            continue
        observation, fingerprint = answered
        same = _same_state(tree, index, observation, fingerprint)
        if same is not None:
            tree.nodes[same].merged += count
            continue
        fresh.append(tree.add(index, proposal, observation))
        tree.nodes[fresh[-1]].merged = count
        tree.nodes[fresh[-1]].fingerprint = fingerprint
    return fresh


async def _identify_children(tree: Tree, index: int, actions: tuple[str, ...], calls: Calls) -> None:
    """A child that a rollout left here was never compared with others, so it has no fingerprint yet."""
    for i in tree.nodes[index].children:
        child = tree.nodes[i]
        if not child.fingerprint:
            child.fingerprint = await calls.fingerprint((*actions, child.action))


def _same_state(tree: Tree, index: int, observation: Observation, fingerprint: str) -> int | None:
    """The child with the same engine state whose observation reads the same."""
    wanted = fingerprint, observation.text, observation.done
    for i in tree.nodes[index].children if fingerprint else ():
        child = tree.nodes[i]
        if (child.fingerprint, child.observation, child.terminal) == wanted:
            return i
    return None
