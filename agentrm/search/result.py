"""What every test-time search returns, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass

from agentrm.core.state import State
from agentrm.core.tree import Tree

COMPLETE = "complete"
GATE = "gate"


@dataclass(slots=True)
class Cost:
    """Tokens the policy sampled, states the reward model scored, distinct environment steps, and wall seconds.

    Of the scored states' tokens `reward_tokens` were computed, `cached_tokens` were found in the reward model's cache;
    of `shortened_states`, which exceed its context, the reward model read a part, and none of `unread_states`.
    """

    policy_tokens: int = 0
    scored_states: int = 0
    reward_tokens: int = 0
    cached_tokens: int = 0
    shortened_states: int = 0
    unread_states: int = 0
    environment_steps: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node of the tree that a round came to: its number and its `parent`'s, its value if it has one, and whether it
    was `kept`.
    """

    index: int
    parent: int
    value: float | None
    action: str
    observation: str
    ended: bool
    kept: bool


@dataclass(frozen=True, slots=True)
class Round:
    """A round of a search that is over: its candidates, the best first, the nodes that `stay` from earlier rounds, and
    what the search has cost so far.
    """

    candidates: list[Candidate]
    stay: list[int]
    cost: Cost


@dataclass(frozen=True, slots=True)
class Result:
    """The state that a search chose, its value (None without a reward model), what it cost, and the explored tree.

    In the tree `estimate` is a state's raw score, `visits` and `value` are the number and mean of the values at and
    below a node, clipped to [0, 1]. `ended_by`: `complete`, `gate` where a finished episode was good enough to stop,
    or the budget that cut the search (`tokens`, `steps`, `scores` or `seconds`).
    """

    state: State
    score: float | None
    cost: Cost
    tree: Tree
    ended_by: str

    @property
    def finished(self) -> bool:
        """Whether the environment ended the episode; a step limit, the context or a budget may have cut it."""
        return self.state.done

    @property
    def cut(self) -> bool:
        """Whether a budget ended the search."""
        return self.ended_by not in (COMPLETE, GATE)
