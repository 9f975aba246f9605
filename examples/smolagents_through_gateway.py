"""An agent of smolagents walks a maze by a tool; the gateway's address and the model's name make its turns better:

agentrm gateway run=runs/mine gateway.upstream=http://127.0.0.1:8001/v1
OPENAI_API_KEY=... python examples/smolagents_through_gateway.py http://127.0.0.1:8100/v1 NAME@best-of-4
"""

from __future__ import annotations

import os
import sys

from smolagents import OpenAIModel, ToolCallingAgent, tool

from agentrm import Task, make


def main(url: str, model: str) -> None:
    maze = make("maze")
    goal = maze.reset(Task("maze", "rooms_medium", "test", 0)).text

    @tool
    def move(direction: str) -> str:
        """Take one step.

        Args:
            direction: up, down, left or right
        """
        return maze.step(f"move {direction}").text

    llm = OpenAIModel(model_id=model, api_base=url, api_key=os.environ["OPENAI_API_KEY"])
    agent = ToolCallingAgent(tools=[move], model=llm, max_steps=12, verbosity_level=0)
    print("answer", agent.run(goal))
    for step in agent.memory.steps[1:]:
        print([call.arguments for call in step.tool_calls], step.observations)


if __name__ == "__main__":
    main(*sys.argv[1:])
