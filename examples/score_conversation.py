"""Score a conversation over HTTP, after each of the environment's answers: the right way and a wrong one.

agentrm serve                                                             # in another terminal
python examples/score_conversation.py http://127.0.0.1:8000
"""

from __future__ import annotations

import argparse

from agentrm import ScoringClient, Task, make
from agentrm.core.actions import ActionFormat, render
from agentrm.core.state import ENDED

TASK = Task("maze", "rooms_medium", "test", 0)


def play(actions: list[str]) -> list[dict[str, str]]:
    """The conversation in which the agent thinks as the oracle does and takes these actions."""
    maze = make(TASK.environment)
    messages = [{"role": "user", "content": maze.reset(TASK).text}]
    for number, action in enumerate(actions):
        thought = maze.thought(actions[number:])
        observation = maze.step(action)
        # A reward model cannot see that the environment has ended the episode unless it reads so.
        ended = f"\n{ENDED}" if observation.done else ""
        messages.append({"role": "assistant", "content": render(thought, action, ActionFormat.react)})
        messages.append({"role": "user", "content": observation.text + ended})
    maze.close()
    return messages


def right_way() -> list[str]:
    """What the oracle would do."""
    maze = make(TASK.environment)
    maze.reset(TASK)
    return maze.expert_actions()


def main(url: str, api_key: str) -> None:
    """Print a value for each state of both ways; values are raw, and higher is better."""
    right = right_way()
    to_and_fro = ["move up", "move down"] * (len(right) // 2)
    with ScoringClient(url, api_key) as client:
        (model,) = client.models()
        print(f"{TASK.id} by {model.id}, whose context is {model.context} tokens")
        values = client.score_steps([play(right), play(to_and_fro)])
    for name, state_values in zip(("the right way", "to and fro"), values, strict=True):
        print(f"{name}: {' '.join(f'{value:.2f}' for value in state_values)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="where `agentrm serve` listens")
    parser.add_argument("--api-key", default="", help="the service's serve.api_key")
    arguments = parser.parse_args()
    main(arguments.url, arguments.api_key)
