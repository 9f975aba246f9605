"""One small record of each form, as its project writes it: the same episode, of outcome 1 where the form has one."""

from __future__ import annotations

import json
from typing import Any

SEARCH = {
    "name": "search",
    "description": "Find a flight.",
    "parameters": {"type": "object", "properties": {"to": {"type": "string"}}},
}
TOOLS = [{"type": "function", "function": SEARCH}]
CALL = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"to": "Oslo"}'}}
MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "A flight to Oslo?"},
    {"role": "assistant", "content": "I look.", "tool_calls": [CALL]},
    {"role": "tool", "content": "SK 1", "tool_call_id": "c1"},
    {"role": "assistant", "content": "Take SK 1."},
]
SPOKEN = [
    {"role": "user", "content": "A flight to Oslo?"},
    {"role": "assistant", "content": "search Oslo"},
    {"role": "user", "content": "SK 1"},
    {"role": "assistant", "content": "Take SK 1."},
]

ATIF: dict[str, Any] = {
    "schema_version": "ATIF-v1.6",
    "session_id": "s",
    "agent": {"name": "mine", "version": "1", "model_name": "m", "tool_definitions": TOOLS},
    "steps": [
        {"step_id": 1, "source": "user", "message": "A flight to Oslo?"},
        {
            "step_id": 2,
            "source": "agent",
            "message": "I look.",
            "reasoning_content": "It flies?",
            "tool_calls": [{"tool_call_id": "c1", "function_name": "search", "arguments": {"to": "Oslo"}}],
            "observation": {"results": [{"source_call_id": "c1", "content": "SK 1"}]},
            "extra": {"reward": 0.25},
        },
        {"step_id": 3, "source": "agent", "message": "Take SK 1.", "extra": {"reward": 0.75}},
    ],
}
OPENAI = {"messages": MESSAGES, "tools": TOOLS, "reward": 1, "task_id": 7, "model": "m", "id": "e1"}
PROCESS_BENCH = {
    "messages": MESSAGES,
    "tools": json.dumps(TOOLS),
    "step_labels": {"1": -1, "3": 1},
    "final_label": 1,
    "data_source": "hotpotqa",
    "query_index": 3,
    "sample_index": 0,
}
SHAREGPT = {
    "conversations": [
        {"from": "human", "value": "A flight to Oslo?", "loss": None},
        {"from": "gpt", "value": "search Oslo", "loss": True},
        {"from": "human", "value": "SK 1", "loss": None},
        {"from": "gpt", "value": "Take SK 1.", "loss": True},
    ],
    "item_id": "flights_7",
    "reward": 1.0,
}
VERIFIERS = {
    "id": "t1",
    "task": {"type": "flights", "key": "7", "hash": "abc", "data": {}},
    "agent": {"model": "m"},
    "tools": TOOLS,
    "nodes": [
        {"parent": None, "message": MESSAGES[0], "sampled": False},
        {"parent": 0, "message": MESSAGES[1], "sampled": True, "token_ids": [1]},
        {"parent": 1, "message": MESSAGES[2], "sampled": False},
        {"parent": 2, "message": MESSAGES[3], "sampled": True},
        {"parent": 0, "message": {"role": "assistant", "content": "No."}, "sampled": True},
    ],
    "rewards": {"correct": {"score": 1.0, "weight": 0.75}, "short": {"score": 0.5, "weight": 0.5}},
    "is_completed": True,
    "errors": [],
}
OLDER = {
    "example_id": 7,
    "task": "flights",
    "prompt": MESSAGES[:1],
    "completion": MESSAGES[1:],
    "tools": TOOLS,
    "reward": 1.0,
    "is_truncated": False,
}
TRAJECTORY = {
    "trajectory_id": "t1",
    "instance_id": "django__1",
    "trajectory": [{**each, "name": None, "tool_calls": each.get("tool_calls")} for each in MESSAGES],
    "tools": TOOLS,
    "exit_status": "submit",
    "resolved": True,
}
NEMO_GYM = {
    "responses_create_params": {
        "input": [{"role": "user", "content": "A flight to Oslo?", "type": "message"}],
        "tools": [{"type": "function", **SEARCH, "strict": True}],
    },
    "response": {
        "id": "resp_1",
        "model": "m",
        "output": [
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "It flies?"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "call_id": "c1", "name": "search", "arguments": '{"to": "Oslo"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "SK 1"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Take SK 1."}]},
        ],
    },
    "reward": 1.0,
    "_ng_task_index": 7,
    "_ng_rollout_index": 0,
}
TRL = {
    "prompt": MESSAGES[:1],
    "chosen": MESSAGES[1:],
    "rejected": [{"role": "assistant", "content": "No."}],
    "tools": TOOLS,
}
TOOLRM = {
    "chat_history": MESSAGES[:1],
    "chosen_response": {"role": "assistant", "content": None, "tool_calls": [CALL]},
    "reject_response": {"role": "assistant", "content": "No."},
}
PLAN_REWARDBENCH = {
    "query": "A flight to Oslo?",
    "tools": TOOLS,
    "uuid": "0033761a",
    "chosen": {
        "messages": [
            {"role": "user", "content": "A flight to Oslo?"},
            {"role": "assistant", "content": "I look."},
            {"role": "tool_call", "content": "{'name': 'search', 'arguments': '{\"to\": \"Oslo\"}'}"},
            {"role": "tool_call", "content": '{"name": "search", "arguments": {"to": "Bergen"}}'},
            {"role": "tool_response", "content": "SK 1", "name": "search"},
            {"role": "tool_response", "content": "SK 2"},
            {"role": "tool_call", "content": "{'name': 'search', 'arguments': '{}'}"},
            {"role": "tool_response", "content": "all"},
            {"role": "assistant", "content": "Take SK 1."},
        ]
    },
    "reject": {"messages": [{"role": "user", "content": "A flight to Oslo?"}, {"role": "assistant", "content": "No."}]},
}
STEPWISE = {"prompt": "A flight to Oslo?", "completions": ["I look.", "Take SK 1."], "labels": [False, True]}
