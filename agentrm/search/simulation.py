"""Below a new node: sampled turns to the end of the episode, or a few and the reward model's value of what follows."""

from __future__ import annotations

from agentrm.config.schema import Search
from agentrm.errors import ContextOverflow, EnvironmentFailure
from agentrm.search.calls import Calls
from agentrm.search.tree import Tree


async def roll_out(tree: Tree, index: int, limit: int, search: Search, calls: Calls) -> None:
    """Sample one action at a time below a new node until the episode ends or `rollout_steps` are made.

    Every state on the way is a node. A failing environment closes the node that it failed at. Raises ModelError.
    """
    tree.nodes[index].busy = True
    passed = [index]
    state = tree.state(index)
    actions = state.actions
    try:
        while not state.done and len(state.steps) < limit:
            if search.rollout_steps is not None and len(passed) > search.rollout_steps:
                estimate = await calls.estimate(state)
                if estimate is not None:
                    tree.nodes[index].estimate = estimate
                    tree.back_up(index, estimate, search.discount)
                    return
            try:
                proposal = await calls.continuation(tree, state, actions)
            except ContextOverflow:
                break
            actions = (*actions, proposal.action)
            observation = await calls.observe(tree, actions)
            state = state.extend(proposal, observation)
            index = tree.add(index, proposal, observation)
            tree.nodes[index].busy = True
            passed.append(index)
        await finish(tree, index, search, calls)
    except EnvironmentFailure:
        tree.environment_errors += 1
        tree.close(index)
    finally:
        for i in passed:
            tree.nodes[i].busy = False


async def finish(tree: Tree, index: int, search: Search, calls: Calls) -> None:
    """Grade the end of an episode, back its outcome up, and close the node: nothing new can come of it."""
    node = tree.nodes[index]
    grade = await calls.grade(tree.actions(index))
    node.outcome, node.progress = grade.outcome, grade.progress
    tree.back_up(index, grade.outcome, search.discount)
    tree.close(index)
