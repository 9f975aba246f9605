"""The search tree: one record of nodes, with the statistics of MCTS (paper, section 3; paper.md section 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from agentrm.environments.base import Observation, Task
from agentrm.models.state import Proposal, State, Step


@dataclass(slots=True)
class Node:
    """One state s_t of a tree.

    `parent`: index of the parent, -1 at the root; `action`, `thought`, `text`, `logprob` (natural log, summed over
    `tokens`) and `malformed`: the turn that led here, as sampled; `observation`: what the environment answered (at
    the root: the opening of the conversation). `visits` N and `value` V: number and mean of the outcomes backed up
    through the node. `outcome`, `progress`: the true reward, where an episode ended here, else None. `terminal`: the
    environment ended the episode. `merged`: how many sampled turns had this action.

    `children`, `expanded`, `busy`, `closed` and `virtual` serve the search and are not stored: a simulation stands at a
    `busy` node, `virtual` of them pass through it, and below a `closed` one there is nothing left to simulate.
    """

    parent: int
    depth: int
    observation: str
    action: str = ""
    thought: str = ""
    text: str = ""
    logprob: float = 0.0
    tokens: int = 0
    malformed: bool = False
    visits: int = 0
    value: float = 0.0
    outcome: float | None = None
    progress: float | None = None
    terminal: bool = False
    merged: int = 1
    children: list[int] = field(default_factory=list)
    expanded: bool = False
    busy: bool = False
    closed: bool = False
    virtual: int = 0


@dataclass(slots=True)
class Tree:
    """The tree of one task. `nodes[0]` is the root; parents stand before their children.

    `ended_by`: `iterations` (the budget), `exhausted` (every leaf is final) or `environment` (too many failures).
    """

    task: Task
    nodes: list[Node]
    iterations: int = 0
    ended_by: str = ""
    policy_tokens: int = 0
    environment_errors: int = 0
    seconds: float = 0.0

    def path(self, index: int) -> list[int]:
        """Indices from the root to a node, both included."""
        path = []
        while index >= 0:
            path.append(index)
            index = self.nodes[index].parent
        return path[::-1]

    def state(self, index: int) -> State:
        """The conversation that a node stands for."""
        root, *rest = (self.nodes[i] for i in self.path(index))
        steps = tuple(
            Step(
                Proposal(node.text, node.action, node.thought, node.logprob, node.tokens, node.malformed),
                node.observation,
            )
            for node in rest
        )
        return State(self.task, root.observation, steps, done=self.nodes[index].terminal)

    def child(self, parent: int, action: str) -> int | None:
        """The child that an action leads to, if the tree has it: equal actions are merged."""
        key = normalise(action)
        return next((i for i in self.nodes[parent].children if normalise(self.nodes[i].action) == key), None)

    def add(self, parent: int, proposal: Proposal, observation: Observation) -> int:
        """Append a node below `parent` and return its index."""
        node = Node(
            parent=parent,
            depth=self.nodes[parent].depth + 1,
            observation=observation.text,
            action=proposal.action,
            thought=proposal.thought,
            text=proposal.text,
            logprob=proposal.logprob,
            tokens=proposal.tokens,
            malformed=proposal.malformed,
            terminal=observation.done,
        )
        self.nodes.append(node)
        self.nodes[parent].children.append(len(self.nodes) - 1)
        return len(self.nodes) - 1

    def back_up(self, index: int, outcome: float) -> None:
        """Count one outcome at a node and all its ancestors: N += 1, V += (outcome - V) / N."""
        for i in self.path(index):
            node = self.nodes[i]
            node.visits += 1
            node.value += (outcome - node.value) / node.visits

    def ucb(self, index: int, exploration: float, virtual_loss: float) -> float:
        """V + c sqrt(2 ln N_parent / N); each simulation under way counts as `virtual_loss` visits of outcome 0."""
        node, parent = self.nodes[index], self.nodes[self.nodes[index].parent]
        visits = node.visits + virtual_loss * node.virtual
        if visits == 0:
            return math.inf
        total = max(parent.visits + virtual_loss * parent.virtual, 1.0)
        return node.value * node.visits / visits + exploration * math.sqrt(2 * math.log(total) / visits)

    def close(self, index: int) -> None:
        """Mark a node whose subtree holds nothing more to simulate, and every ancestor that this completes."""
        self.nodes[index].closed = True
        parent = self.nodes[index].parent
        if (
            parent >= 0
            and self.nodes[parent].expanded
            and all(self.nodes[i].closed for i in self.nodes[parent].children)
        ):
            self.close(parent)


def normalise(action: str) -> str:
    """Actions that differ only in case and white space are one action."""
    return " ".join(action.lower().split())
