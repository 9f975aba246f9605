"""An agent with the plain `openai` client plays a maze. The address alone makes its turns better:

agentrm gateway run=runs/quickstart gateway.upstream=http://127.0.0.1:8001/v1
OPENAI_API_KEY=... python examples/agent_through_gateway.py http://127.0.0.1:8100/v1 NAME
"""

from __future__ import annotations

import sys

from openai import OpenAI

from agentrm import Task, make
from agentrm.core.actions import ActionFormat, read

_TURNS = 12


def main(url: str, model: str) -> None:
    client, maze = OpenAI(base_url=url), make("maze")
    answer = maze.reset(Task("maze", "rooms_medium", "test", 0))
    messages = [{"role": "user", "content": answer.text}]
    for _ in range(_TURNS):
        completion = client.chat.completions.create(model=model, messages=messages, temperature=1.0, max_tokens=48)
        said = completion.choices[0].message.content
        action = read(said, ActionFormat.react).action
        answer = maze.step(action)
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": answer.text}]
        print(action, completion.agentrm["values"])
        if answer.done:
            break


if __name__ == "__main__":
    main(*sys.argv[1:])
