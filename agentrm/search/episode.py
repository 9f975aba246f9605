"""How an episode begins, and where it is cut."""

from __future__ import annotations

from dataclasses import dataclass

from agentrm.config.schema import Model
from agentrm.core.actions import ActionFormat, render
from agentrm.core.protocols import Sessions
from agentrm.core.state import State
from agentrm.core.task import Observation, Task
from agentrm.environments.prompts import published_prompt
from agentrm.environments.registry import environment_class


@dataclass(frozen=True, slots=True)
class Opening:
    """Writes what stands before the agent's first turn: the environment's instruction and example, where asked for, and
    the observation, in one turn of the user.

    An agent that calls tools is offered the environment's. It is told neither how an action is written nor the example,
    whose calls would stand there as text, in a form that is not the one of its chat template; and no observation lists
    the tools once more. `prompts` is a folder with the instructions and examples of a project, which then stand in the
    place of the environment's.
    """

    instructions: bool
    action_format: ActionFormat
    prompts: str = ""

    @classmethod
    def of(cls, model: Model) -> Opening:
        """As the configuration of a policy says."""
        return cls(model.instructions, model.action_format, model.prompts)

    def __call__(self, task: Task, first: Observation) -> State:
        """The state before the first action."""
        if not self._calls:
            return State.begin(task, self._text(task, first.text), done=first.done)
        environment = environment_class(task.environment)
        text = self._text(task, environment.observation_for_calls(task.kind, first.text))
        return State.begin(task, text, done=first.done, tools=environment.tools(task.kind))

    @property
    def _calls(self) -> bool:
        return self.action_format is ActionFormat.tools

    def _text(self, task: Task, observation: str) -> str:
        if not self.instructions:
            return observation
        environment = environment_class(task.environment)
        if self._calls:
            return f"{environment.instruction_for_calls(task.kind)}\n\n{observation}"
        if self.prompts:
            instruction, turns = published_prompt(self.prompts, task.environment, task.kind)
        else:
            instruction, example = environment.guide(task.kind)
            turns = tuple(
                f"{turn.observation}\n{render(turn.thought, turn.action, self.action_format)}" for turn in example
            )
        shown = ["An example:", *turns, "Now it is your turn."] if turns else []
        return "\n\n".join([instruction, *shown, observation])


async def begin(task: Task, sessions: Sessions, opening: Opening) -> State:
    """The state before the first action."""
    return opening(task, await sessions.observe(task, ()))


def step_limit(task: Task, max_depth: int) -> int:
    """The number of actions after which an episode is cut: the environment's own limit, or less."""
    return min(max_depth, environment_class(task.environment).step_limit(task.kind))
