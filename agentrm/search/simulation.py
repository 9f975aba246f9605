"""Below a new node: sampled turns to the end of the episode, or a few and the reward model's value of what follows."""

from __future__ import annotations

from agentrm.config.schema import Trees
from agentrm.core.errors import ContextOverflow, EnvironmentFailure, ModelError
from agentrm.core.tree import Tree
from agentrm.search.calls import Calls


async def roll_out(tree: Tree, index: int, limit: int, search: Trees, calls: Calls, number: int = 0) -> None:
    """Sample one action at a time below a new node until the episode ends or `rollout_steps` are made.

    Every state on the way is a node; where an earlier rollout took the same action, it is that one's. `number` tells
    apart the rollouts of one node, which draw apart. What an environment or a model fails at costs this rollout alone:
    see `Tree.break_off`. Raises ModelUnavailable.
    """
    tree.nodes[index].busy += 1
    passed = [index]
    state = tree.state(index)
    try:
        while not state.done and len(state.steps) < limit:
            if search.rollout_steps is not None and len(passed) > search.rollout_steps:
                estimate = await calls.estimate(state)
                if estimate is not None:
                    tree.nodes[index].estimate = estimate
                    tree.back_up(index, estimate, search.discount)
                    return
            try:
                proposal = await calls.continuation(tree, state, number)
            except ContextOverflow:
                break
            child = tree.child(index, proposal.action)
            if child is None:
                observation = await calls.observe(tree, (*state.actions, proposal.action))
                # Another rollout of this node may have come here while the environment answered.
                child = tree.child(index, proposal.action)
            if child is None:
                index, state = tree.add(index, proposal, observation), state.extend(proposal, observation)
            else:
                index, state = child, tree.state(child)
                tree.nodes[index].merged += 1
            tree.nodes[index].busy += 1
            passed.append(index)
        await finish(tree, index, search, calls)
    except (EnvironmentFailure, ModelError) as error:
        tree.break_off(index, error)
    finally:
        for i in passed:
            tree.nodes[i].busy -= 1


async def finish(tree: Tree, index: int, search: Trees, calls: Calls) -> None:
    """Grade the end of an episode, back its outcome up, and close the node: nothing new can come of it."""
    node = tree.nodes[index]
    grade = await calls.grade(tree.actions(index))
    node.outcome, node.progress = grade.outcome, grade.progress
    tree.back_up(index, grade.outcome, search.discount)
    tree.close(index)
