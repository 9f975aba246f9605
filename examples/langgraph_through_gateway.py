"""An agent of LangGraph walks a maze by a tool; the gateway's address and the model's name make its turns better:

agentrm gateway run=runs/mine gateway.upstream=http://127.0.0.1:8001/v1
OPENAI_API_KEY=... python examples/langgraph_through_gateway.py http://127.0.0.1:8100/v1 NAME@best-of-4
"""

from __future__ import annotations

import sys

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from agentrm import Task, make


def main(url: str, model: str) -> None:
    maze = make("maze")
    goal = maze.reset(Task("maze", "rooms_medium", "test", 0)).text

    @tool
    def move(direction: str) -> str:
        """Take one step up, down, left or right."""
        return maze.step(f"move {direction}").text

    llm = ChatOpenAI(base_url=url, model=model).bind_tools([move])

    def agent(state: MessagesState) -> MessagesState:
        return {"messages": [llm.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("agent", agent)
    graph.add_node("tools", ToolNode([move]))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", tools_condition)
    graph.add_edge("tools", "agent")
    for message in graph.compile().invoke({"messages": [("user", goal)]})["messages"][1:]:
        print(message.type, message.content or message.tool_calls[0]["args"])


if __name__ == "__main__":
    main(*sys.argv[1:])
