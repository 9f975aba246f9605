"""An agent of the OpenAI Agents SDK walks a maze by a tool; the gateway's address and the model's name make its turns
better:

agentrm gateway run=runs/mine gateway.upstream=http://127.0.0.1:8001/v1
OPENAI_API_KEY=... python examples/agents_sdk_through_gateway.py http://127.0.0.1:8100/v1 NAME@best-of-4
"""

from __future__ import annotations

import sys

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

from agentrm import Task, make


def main(url: str, model: str) -> None:
    maze = make("maze")
    goal = maze.reset(Task("maze", "rooms_medium", "test", 0)).text

    @function_tool
    def move(direction: str) -> str:
        """Take one step: up, down, left or right."""
        return maze.step(f"move {direction}").text

    # Traces would go to OpenAI.
    set_tracing_disabled(True)
    llm = OpenAIChatCompletionsModel(model=model, openai_client=AsyncOpenAI(base_url=url))
    result = Runner.run_sync(Agent(name="walker", model=llm, tools=[move]), goal, max_turns=12)
    for item in result.new_items:
        print(item.type, getattr(item, "output", ""))
    print("answer", result.final_output)


if __name__ == "__main__":
    main(*sys.argv[1:])
