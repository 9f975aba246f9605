"""Rewards of single steps for reinforcement learning: what each turn added to the value of the state.

Over an episode they sum to the last state's value less the first one's.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from agentrm.core.tree import Tree
from agentrm.episodes.export.card import MESSAGES, Feature
from agentrm.episodes.export.episodes import Ended, episodes, tools_text

VERL: dict[str, Feature] = {
    "data_source": "string",
    "prompt": MESSAGES,
    "response": MESSAGES,
    "ability": "string",
    "reward_model": {"style": "string", "ground_truth": "string"},
    "extra_info": {"index": "string", "split": "string", "turn_scores": ["float64"]},
    "outcome": "float64",
    "tools": "string",
}
SKYRL: dict[str, Feature] = {
    "prompt": MESSAGES,
    "response": MESSAGES,
    "rewards": "float64",
    "is_last_step": "bool",
    "trajectory_id": {"instance_id": "string", "repetition_id": "int64"},
    "tools": "string",
}


def verl(trees: list[Tree]) -> Iterator[dict[str, Any]]:
    """A row per episode with the columns of verl's datasets, and the `turn_scores` of its agent loops."""
    for tree in trees:
        for episode in episodes(tree):
            yield {
                "data_source": f"{tree.task.environment}.{tree.task.kind}",
                "prompt": episode.messages(0, 1),
                "response": episode.messages(1),
                "ability": "agent",
                "reward_model": {"style": "model", "ground_truth": ""},
                "extra_info": {"index": episode.id, "split": tree.task.split, "turn_scores": _rewards(episode)},
                "outcome": episode.outcome,
                "tools": tools_text(tree),
            }


def skyrl(trees: list[Tree]) -> Iterator[dict[str, Any]]:
    """A row per step, as SkyRL's step-wise training takes them: a step's prompt is all before it."""
    number = 0
    for tree in trees:
        for episode in episodes(tree):
            rewards = _rewards(episode)
            for step, reward in enumerate(rewards, 1):
                yield {
                    "prompt": episode.messages(0, step),
                    "response": [episode.nodes[step].proposal.message()],
                    "rewards": reward,
                    "is_last_step": step == len(rewards),
                    "trajectory_id": {"instance_id": tree.task.id, "repetition_id": number},
                    "tools": tools_text(tree),
                }
            number += 1


def _rewards(ended: Ended) -> list[float]:
    values = [node.value for node in ended.nodes]
    return [after - before for before, after in pairwise(values)]
