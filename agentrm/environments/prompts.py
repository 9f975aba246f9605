"""Instructions and examples in published wording, read from the user's copy of a project's prompt files.

Two forms are known: that of ETO and AgentRM (`eval_agent/prompt`: `instructions/NAME_inst.txt` and
`icl_examples/NAME_icl.json`, a list of conversations), and AgentBoard's (`agentboard/prompts/VanillaAgent`: a JSON file
with `instruction` and `examples`, in PDDL's one such object for each domain). Of several examples the first is shown.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from agentrm.core.errors import UserError
from agentrm.environments import agentboard
from agentrm.environments.perturbations import Perturbed
from agentrm.environments.registry import base_name, environment_class

KEY = "model.prompts"
_FIX = (
    "name eval_agent/prompt of AgentRM's or ETO's code or agentboard/prompts/VanillaAgent of AgentBoard's, or leave "
    "the key out"
)

# By environment the names of a prompt with and without AgentBoard's suffix, and AgentBoard's own file; {} is the kind.
_NAMES = {
    "alfworld": (("alfworld", "alfworld_ab"), "alfworld_base"),
    "babyai": (("babyai",), "babyai_vanilla_prompt"),
    "jericho": (("jericho",), "jericho_vanilla_prompt"),
    "maze": (("maze",), ""),
    "pddl": (("pddl_{}",), "pddl_vanilla_prompt"),
    "scienceworld": (("sciworld", "sciworld_ab"), "scienceworld_base"),
    "tooloperation": (("tool_{}",), "{}_prompt"),
    "toolquery": (("tool_{}",), "{}_prompt"),
    "webshop": (("webshop", "webshop_ab"), "webshop_vanilla"),
}
_KINDS = {"blocksworld": "blockworld"}
_RECORDED = "_recorded"
# What stands before an action in a list of actions and in a turn.
_BEFORE_ACTION = re.compile(r"^(\s*(?:\d+\.|Action:)\s*)(.+)$", re.MULTILINE)


class Prompt(NamedTuple):
    """What stands before a task: the instruction, and the turns of a solved example, the environment's first."""

    instruction: str
    example: tuple[str, ...]


@cache
def published_prompt(folder: str, environment: str, kind: str) -> Prompt:
    """The prompt of a kind of an environment, or of one of its perturbations, in a folder; old actions in the words of
    the present engine. Raises UserError where the folder has none for it, or it cannot be read.
    """
    cls = environment_class(environment)
    prompt = _find(Path(folder).expanduser(), base_name(environment), kind)

    def worded(text: str) -> str:
        text = _BEFORE_ACTION.sub(lambda match: match[1] + cls.present_wording(match[2]), cls.present_wording(text))
        return cls.reword(text) if issubclass(cls, Perturbed) else text

    return Prompt(worded(prompt.instruction).strip(), tuple(map(worded, prompt.example)))


def _find(folder: Path, environment: str, kind: str) -> Prompt:
    if not folder.is_dir():
        raise UserError(f"the key {KEY} names {folder}, which is no folder here: {_FIX}")
    names, board = _NAMES.get(environment, ((environment,), ""))
    if kind == agentboard.KIND:
        names = names[::-1]
    kind = kind.removesuffix(_RECORDED)
    kind = _KINDS.get(kind, kind)
    for name in (template.format(kind) for template in names):
        path = folder / "instructions" / f"{name}_inst.txt"
        if path.is_file():
            return Prompt(_text(path), _conversation(folder / "icl_examples" / f"{name}_icl.json"))
    path = folder / f"{board.format(kind)}.json"
    if board and path.is_file():
        return _board_prompt(path, kind)
    wanted = ", ".join(f"instructions/{template.format(kind)}_inst.txt" for template in names)
    raise UserError(
        f"the key {KEY}: {folder} holds no prompt for {environment} {kind} ({wanted}"
        + (f" or {path.name}" if board else "")
        + f"): {_FIX}"
    )


def _conversation(path: Path) -> tuple[str, ...]:
    """The first example of a file, () where there is no such file."""
    if not path.is_file():
        return ()
    examples = _json(path)
    first = examples[0] if isinstance(examples, list) and examples else None
    if isinstance(first, str):
        return (first,)
    given = first if isinstance(first, list) else []
    turns = [turn["content"] for turn in given if isinstance(turn, dict) and isinstance(turn.get("content"), str)]
    if not turns or len(turns) < len(given):
        raise UserError(f"the key {KEY}: {path} holds no list of conversations with content: get the file anew")
    return tuple(turn.strip() for turn in turns)


def _board_prompt(path: Path, kind: str) -> Prompt:
    content: Any = _json(path)
    if isinstance(content, dict) and isinstance(content.get(kind), dict):
        content = content[kind]
    instruction = content.get("instruction") if isinstance(content, dict) else None
    if not isinstance(instruction, str) or not instruction.strip():
        raise UserError(f"the key {KEY}: {path} holds no instruction for {kind}: get the file anew")
    examples = content.get("examples")
    if isinstance(examples, dict):
        examples = list(examples.values())
    while isinstance(examples, list) and examples:
        examples = examples[0]
    return Prompt(instruction, (examples.strip(),) if isinstance(examples, str) else ())


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the key {KEY}: {path} cannot be read ({error}): get the file anew") from None
    if not text.strip():
        raise UserError(f"the key {KEY}: {path} is empty: get the file anew")
    return text


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"the key {KEY}: {path} is no JSON ({error}): get the file anew") from None
