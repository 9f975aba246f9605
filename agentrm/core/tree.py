"""The search tree: one record of nodes, with the statistics of MCTS (paper, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agentrm.core.errors import AgentRMError, EnvironmentFailure, InputRefused, ModelUnavailable
from agentrm.core.messages import Message, Tool, ToolCall, text_of
from agentrm.core.state import Proposal, State, Step, answers
from agentrm.core.task import Observation, Task


@dataclass(frozen=True, slots=True)
class Origin:
    """An imported episode that ended at a node: the `file`, `line` (from 1) and `id` that it had there, whose `model`
    played it, its `outcome` in [0, 1], and of a preference the `pair` and its `side`: `chosen` or `rejected`.
    """

    file: str
    line: int
    id: str = ""
    model: str = ""
    outcome: float | None = None
    pair: str = ""
    side: str = ""


@dataclass(slots=True)
class Node:
    """One state s_t of a tree.

    `parent`: index of the parent, -1 at the root; `action`, `thought`, `text`, `logprob`, `tokens`, `malformed` and
    `removed`, `reasoning` and `calls`: the turn that led here, see `Proposal`; `observation`: what the environment
    answered (at the root: the opening of the conversation), and `answers` its messages where they are others than one
    of the user, or one to each call (none: nobody has answered the turn). `visits` N and `value` V: number and mean of
    the returns backed up through the node. `outcome`, `progress`: the true reward, where an episode ended here, else
    None. `estimate`: the reward model's value, where a rollout was cut here, or what a test-time search compared (raw),
    else None.
    `terminal`: the environment ended the episode.
    `merged`: how many sampled turns led to this state.

    Of imported episodes alone: `label`, what somebody said of the turn that led here, from -1 (it harms) to 1 (it
    helps), and its `reward`, as the data had them (of several episodes the mean), and `origins`, the episodes that
    ended here.

    The rest serves the search and is not stored. `busy` simulations stand at the node, `virtual` of them pass through
    it. An `expanded` node has the children that are selected among; at a `sealed` one no more actions are sampled, and
    below a `closed` one there is nothing left to simulate. `draws` counts the samplings at the node; `fingerprint` is
    the engine's, where states are merged.
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
    removed: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    answers: tuple[Message, ...] | None = None
    visits: int = 0
    value: float = 0.0
    outcome: float | None = None
    progress: float | None = None
    estimate: float | None = None
    terminal: bool = False
    merged: int = 1
    label: float | None = None
    reward: float | None = None
    origins: tuple[Origin, ...] = ()
    children: list[int] = field(default_factory=list)
    expanded: bool = False
    sealed: bool = False
    busy: int = 0
    closed: bool = False
    virtual: int = 0
    draws: int = 0
    fingerprint: str = ""

    @property
    def proposal(self) -> Proposal:
        """The turn that led here."""
        return Proposal(
            self.text,
            self.action,
            self.thought,
            self.logprob,
            self.tokens,
            self.malformed,
            self.removed,
            self.reasoning,
            self.calls,
        )

    @property
    def answered(self) -> bool:
        """Whether anybody has answered the turn that led here."""
        return self.answers != ()

    def messages(self) -> tuple[Message, ...]:
        """What stands after the agent's turn; at the root, before it."""
        return answers(self.proposal, self.observation) if self.answers is None else self.answers


@dataclass(slots=True)
class Tree:
    """One tree of a task. `nodes[0]` is the root; parents stand before their children.

    `number` counts the trees of one task. `ended_by`: the budget that was used up (`iterations`, `tokens`, `steps` or
    `seconds`), `exhausted` (every leaf is final) or `environment` (too many failures). `policy_tokens` and
    `environment_steps` are what this tree paid for; what an earlier tree of the task had simulated is not paid again.
    `environment_errors` and `engine_errors` count simulations that an environment or a model broke off, or an action
    that the environment failed at; `failure`, which is not stored, is the last of these errors, or what else left the
    tree without a rollout. `tools` are those on offer.
    """

    task: Task
    nodes: list[Node]
    number: int = 0
    iterations: int = 0
    ended_by: str = ""
    policy_tokens: int = 0
    environment_steps: int = 0
    environment_errors: int = 0
    engine_errors: int = 0
    seconds: float = 0.0
    failure: AgentRMError | None = None
    tools: tuple[Tool, ...] = ()

    @classmethod
    def of(cls, root: State, number: int = 0) -> Tree:
        """A tree that has not grown: the state before the first action alone."""
        text = "\n\n".join(map(text_of, root.opening))
        node = Node(-1, 0, text, terminal=root.done, answers=root.opening)
        if node.answers == answers(node.proposal, text):
            node.answers = None
        return cls(root.task, [node], number, tools=root.tools)

    @property
    def id(self) -> str:
        """A name that is safe in a path: the task's, and the number of a further tree: `….train.12.0@2`."""
        return tree_id(self.task, self.number)

    @property
    def grown(self) -> bool:
        """Whether a rollout came to its end: without one there is nothing to learn from."""
        return any(node.visits for node in self.nodes[1:])

    def path(self, index: int) -> list[int]:
        """Indices from the root to a node, both included."""
        path = []
        while index >= 0:
            path.append(index)
            index = self.nodes[index].parent
        return path[::-1]

    def leaves(self) -> list[int]:
        """Indices of the nodes without children, in their order."""
        inner = {node.parent for node in self.nodes}
        return [index for index in range(len(self.nodes)) if index not in inner]

    def state(self, index: int) -> State:
        """The conversation that a node stands for."""
        root, *rest = (self.nodes[i] for i in self.path(index))
        steps = tuple(Step(node.proposal, node.messages()) for node in rest)
        return State(self.task, root.messages(), steps, self.nodes[index].terminal, self.tools)

    def taken(self, index: int) -> State:
        """The conversation that ends with the turn that led to a node, before anybody has answered it."""
        state = self.state(index)
        *before, last = state.steps
        return replace(state, steps=(*before, replace(last, answers=())), done=False)

    def actions(self, index: int) -> tuple[str, ...]:
        """The actions from the root to a node."""
        return tuple(self.nodes[i].action for i in self.path(index)[1:])

    def child(self, parent: int, action: str) -> int | None:
        """The child that an action leads to, if the tree has it: equal actions are merged."""
        key = normalise(action)
        return next((i for i in self.nodes[parent].children if normalise(self.nodes[i].action) == key), None)

    def add(self, parent: int, proposal: Proposal, observation: Observation | None) -> int:
        """Append a node below `parent` and return its index. Without an observation it is a turn that nobody has
        answered, until `answer`.
        """
        node = Node(
            parent=parent,
            depth=self.nodes[parent].depth + 1,
            observation="",
            action=proposal.action,
            thought=proposal.thought,
            text=proposal.text,
            logprob=proposal.logprob,
            tokens=proposal.tokens,
            malformed=proposal.malformed,
            removed=proposal.removed,
            reasoning=proposal.reasoning,
            calls=proposal.calls,
            answers=(),
        )
        self.nodes.append(node)
        self.nodes[parent].children.append(len(self.nodes) - 1)
        index = len(self.nodes) - 1
        if observation is not None:
            self.answer(index, observation)
        return index

    def answer(self, index: int, observation: Observation) -> None:
        """Take what the environment says to the turn that led to a node."""
        node = self.nodes[index]
        node.observation, node.terminal, node.answers = observation.text, observation.done, None

    def back_up(self, index: int, value: float, discount: float) -> None:
        """Count one return at a node and all its ancestors: N += 1, V += (value - V) / N.

        Each step towards the root multiplies the return by `discount`.
        """
        for i in reversed(self.path(index)):
            node = self.nodes[i]
            node.visits += 1
            node.value += (value - node.value) / node.visits
            value *= discount

    def occupy(self, index: int) -> None:
        """A simulation begins at a node."""
        self.nodes[index].busy += 1
        for i in self.path(index):
            self.nodes[i].virtual += 1

    def release(self, index: int) -> None:
        """The simulation that `occupy` announced has ended."""
        self.nodes[index].busy -= 1
        for i in self.path(index):
            self.nodes[i].virtual -= 1

    def count(self, error: AgentRMError) -> None:
        """Take note of what an environment or a model failed at. Raises ModelUnavailable: no tree grows without it."""
        if isinstance(error, ModelUnavailable):
            raise error
        if isinstance(error, EnvironmentFailure):
            self.environment_errors += 1
        else:
            self.engine_errors += 1
        self.failure = error

    def break_off(self, index: int, error: AgentRMError) -> None:
        """A simulation ends at a node for an error, which `count` counts; one that would only come again closes it."""
        self.count(error)
        if isinstance(error, EnvironmentFailure | InputRefused):
            self.close(index)

    def close(self, index: int) -> None:
        """Mark a node whose subtree holds nothing more to simulate, and every ancestor that this completes."""
        self.nodes[index].closed = True
        if (parent := self.nodes[index].parent) >= 0:
            self.close_if_done(parent)

    def close_if_done(self, index: int) -> None:
        """Close a node where no more actions are sampled and whose children are all closed."""
        node = self.nodes[index]
        if node.sealed and not node.closed and all(self.nodes[i].closed for i in node.children):
            self.close(index)


def tree_id(task: Task, number: int) -> str:
    """The name of one tree of a task."""
    return f"{task.id}@{number}" if number else task.id


def normalise(action: str) -> str:
    """Actions that differ only in case and white space are one action."""
    return " ".join(action.lower().split())
