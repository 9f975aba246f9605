"""BabyAI on minigrid: 2-D rooms described in text, with high-level actions in the manner of AgentBoard."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from agentrm.core.task import Grade, Observation, Task
from agentrm.environments import agentboard
from agentrm.environments.base import Turn
from agentrm.environments.official import OfficialData, OfficialEnvironment, Published
from agentrm.environments.rewriting import Rewriting
from agentrm.environments.support import COMPLETED, derive_seed, digest, engine_import, split_of

if TYPE_CHECKING:
    from agentrm.environments.babyai.board import Board
    from agentrm.environments.babyai.world import World

LEVELS = {
    "goto_red_ball_grey": "BabyAI-GoToRedBallGrey-v0",
    "goto_red_ball": "BabyAI-GoToRedBall-v0",
    "goto_red_ball_no_dists": "BabyAI-GoToRedBallNoDists-v0",
    "goto_obj": "BabyAI-GoToObj-v0",
    "goto_local": "BabyAI-GoToLocal-v0",
    "goto_obj_maze": "BabyAI-GoToObjMazeS4R2-v0",
    "goto": "BabyAI-GoTo-v0",
    "goto_red_blue_ball": "BabyAI-GoToRedBlueBall-v0",
    "goto_door": "BabyAI-GoToDoor-v0",
    "goto_obj_door": "BabyAI-GoToObjDoor-v0",
    "goto_seq": "BabyAI-GoToSeqS5R2-v0",
    "open_red_door": "BabyAI-OpenRedDoor-v0",
    "open_door": "BabyAI-OpenDoor-v0",
    "open_door_loc": "BabyAI-OpenDoorLoc-v0",
    "open_two_doors": "BabyAI-OpenTwoDoors-v0",
    "open_doors_order": "BabyAI-OpenDoorsOrderN2-v0",
    "pickup": "BabyAI-Pickup-v0",
    "pickup_loc": "BabyAI-PickupLoc-v0",
    "pickup_dist": "BabyAI-PickupDist-v0",
    "pickup_above": "BabyAI-PickupAbove-v0",
    "put_next_local": "BabyAI-PutNextLocalS5N3-v0",
    "put_next": "BabyAI-PutNextS5N2-v0",
    "unlock": "BabyAI-Unlock-v0",
    "unlock_local": "BabyAI-UnlockLocal-v0",
    "unlock_pickup": "BabyAI-UnlockPickup-v0",
    "unlock_to_unlock": "BabyAI-UnlockToUnlock-v0",
    "key_in_box": "BabyAI-KeyInBox-v0",
    "action_obj_door": "BabyAI-ActionObjDoor-v0",
    "find_obj": "BabyAI-FindObjS5-v0",
    "key_corridor": "BabyAI-KeyCorridorS3R1-v0",
    "one_room": "BabyAI-OneRoomS8-v0",
}
_WALK = Rewriting(("go to", "walk to"), slots={}, ignore_case=True)
_NOSPACE = Rewriting(
    ("{type} {number}", "{type}{number}"), slots={"type": "ball|box|door|key", "number": "[0-9]+"}, ignore_case=True
)


BOARD_INSTRUCTION = (
    "You are in a grid world and have to fulfil a task. Actions: turn left, turn right, move forward, go to <object> "
    "<number>, pickup <object> <number>, go through <door> <number>, toggle and go through <door> <number>, toggle, "
    "drop, check available actions. Name objects as you see them now, for example: go to red ball 1. A door's name has "
    "its state: toggle and go through blue closed door 1. To open a locked door, carry the key of its color and toggle "
    "it."
)
_VIEW = "In front of you in this room, you can see several objects: "
BOARD_EXAMPLE = (
    Turn(
        f"Your task: go to the red ball. {_VIEW}There is a blue key 1 1 steps in front of you and 2 steps to your "
        "right.  The room has walls around you. You are facing a wall 4 steps away. You are not carrying anything.",
        "I see no red ball here, so I look to the left.",
        "turn left",
    ),
    Turn(
        f"{_VIEW}There is a red ball 1 3 steps in front of you and 1 steps to your left.  The room has walls around "
        "you. You are facing a wall 5 steps away. You are not carrying anything.",
        "There is the red ball.",
        "go to red ball 1",
    ),
)


@dataclass(frozen=True, slots=True)
class BoardTask:
    """One of AgentBoard's goals: the level's id in minigrid today, its seed, and what its line says."""

    level: str
    seed: int
    goal: str
    subgoals: tuple[str, ...]


def _published(folder: Path, kind: str, split: str) -> Published:
    with engine_import("BabyAI", "babyai"):
        from agentrm.environments.babyai import board as babyai_board

    def parse(line: agentboard.Line) -> BoardTask:
        name = line.text("subtask")
        if name not in babyai_board.LEVELS:
            raise ValueError("its subtask is none of AgentBoard's levels")
        seed = babyai_board.FIRST_SEED + line.number % babyai_board.SEEDS
        task = BoardTask(babyai_board.LEVELS[name] or name, seed, line.goal, line.patterns)
        if _board(task).describe() != line.info.get("init_obs"):
            raise ValueError("its level does not begin as its init_obs says: its id must number levels by four seeds")
        return task

    return agentboard.published_lines(BabyAI.name, parse, folder)


def _board(task: BoardTask) -> Board:
    from agentrm.environments.babyai.board import Board

    return Board(*_level(task.level, task.seed), task.goal, task.subgoals)


class BabyAI(OfficialEnvironment):
    """BabyAI levels; a kind is a level, its tasks are drawn by seed; the kind `agentboard` are AgentBoard's 112 goals
    in its own wording, where the environment variable AGENTBOARD_DATA names its data.

    The agent sees a 7 by 7 view ahead of it and may act on all that it has seen, which the observations number:
    `go to`, `pick up`, `put next to`, `go through` and `toggle and go through` plan over the known part of the grid.
    An instance belongs to the split that its content hashes to, so that no two splits share one. Outcome
    and progress are the share of the mission's subgoals (targets found, reached, carried, done), as in AgentBoard; of
    AgentBoard's own goals they are the share of its own subgoals, matched as it does.
    """

    name: ClassVar[str] = "babyai"
    engine: ClassVar[str] = "minigrid 3.2.0"
    licence: ClassVar[str] = "MIT"
    kinds: ClassVar[tuple[str, ...]] = tuple(LEVELS)
    published_kinds: ClassVar[tuple[str, ...]] = (agentboard.KIND,)
    max_steps: ClassVar[int] = agentboard.MAX_STEPS
    official: ClassVar[tuple[OfficialData, ...]] = (agentboard.official_tests(_published),)
    snapshots: ClassVar[bool] = True
    instruction: ClassVar[str] = (
        "You are in a grid world and have to fulfil a task. Actions: turn left, turn right, move forward, "
        "go to <object>, pick up <object>, put next to <object>, go through <door>, toggle and go through <door>, "
        "toggle, drop. Name objects as you see them, for example: go to red ball 1."
    )
    example: ClassVar[tuple[Turn, ...]] = (
        Turn(
            "Your task: open the door. You see: purple box 1 (3 right), purple door 1 (locked, 1 forward, 2 left). "
            "Wall 3 forward, 2 left.",
            "The door is locked, so I need a key of its colour. I see none; one may be hidden in the box.",
            "go to purple box 1",
        ),
        Turn("You see: purple box 1 (1 forward). Wall 3 forward, 3 left.", "I face the box and open it.", "toggle"),
        Turn(
            "You see: purple key 1 (1 forward). Wall 3 forward, 3 left.",
            "The key was in the box. I take it.",
            "pick up purple key 1",
        ),
        Turn(
            "You see nothing. Wall 3 forward, 3 left. You carry purple key 1.",
            "With the key I return to the door that I saw at first.",
            "go to purple door 1",
        ),
        Turn(
            "You see: purple door 1 (locked, 1 forward). Wall 2 right. You carry purple key 1.",
            "I face the locked door and carry its key, so toggle opens it.",
            "toggle",
        ),
    )
    perturbations: ClassVar[Mapping[str, tuple[Rewriting, ...]]] = {
        "walk": (_WALK,),
        "nospace": (_NOSPACE,),
        "all": (_WALK, _NOSPACE),
    }

    def __init__(self) -> None:
        with engine_import("BabyAI", "babyai"):
            import minigrid  # noqa: F401

            from agentrm.environments.babyai import board as babyai_board
            from agentrm.environments.babyai import board_oracle as babyai_board_oracle
            from agentrm.environments.babyai import oracle as babyai_oracle
        self._boards, self._board_oracle, self._oracle = babyai_board, babyai_board_oracle, babyai_oracle
        self._task: Task | None = None
        self._world: World | Board | None = None

    @classmethod
    def guide(cls, kind: str) -> tuple[str, tuple[Turn, ...]]:
        return (BOARD_INSTRUCTION, BOARD_EXAMPLE) if kind == agentboard.KIND else (cls.instruction, cls.example)

    def reset(self, task: Task) -> Observation:
        self.check(task)
        self._task = task
        self._world = pickle.loads(_start(task, self.entry(task)))
        return Observation(f"Your task: {self._live.goal}. {self._live.describe()}")

    def step(self, action: str) -> Observation:
        text = self._live.act(action)
        if self._live.status == "success" and not isinstance(self._live, self._boards.Board):
            text = f"{text} {COMPLETED}"
        return Observation(text, done=bool(self._live.status))

    def grade(self) -> Grade:
        progress = self._live.progress()
        return Grade(outcome=progress, progress=progress, success=self._live.status == "success")

    def expert_actions(self) -> list[str]:
        assert self._task is not None
        self.reset(self._task)
        if isinstance(self._live, self._boards.Board):
            return self._board_oracle.solve(self._live, self.max_steps)
        actions = self._oracle.solve(self._live, self.max_steps)
        self.reset(self._task)
        return actions

    def thought(self, plan: Sequence[str]) -> str:
        return "" if isinstance(self._live, self._boards.Board) else self._oracle.thought(self._live, plan)

    def admissible_actions(self) -> list[str]:
        return self._live.possible()

    def fingerprint(self) -> str:
        return digest(self._live.content())

    def snapshot(self) -> Any:
        return self._task, pickle.dumps(self._live)

    def restore(self, state: Any) -> None:
        self._task, world = state
        self._world = pickle.loads(world)

    def close(self) -> None:
        self._world = None

    @property
    def _live(self) -> World | Board:
        assert self._world is not None, "reset(task) comes first"
        return self._world


def _level(level: str, seed: int) -> tuple[Any, Any]:
    """A fresh engine of a level and its first view; the engine prints each rejected draw, which nobody reads."""
    import gymnasium

    with redirect_stdout(io.StringIO()):
        engine: Any = gymnasium.make(level, disable_env_checker=True).unwrapped
        view, _ = engine.reset(seed=seed)
    # The engine counts turns of the body against a limit of its own; ours is `max_steps`, in actions.
    engine.max_steps = 10**9
    # Nothing reads these again, and every snapshot would hold them.
    engine.observation_space = engine.action_space = None
    return engine, view


@lru_cache(maxsize=1024)
def _start(task: Task, published: BoardTask | None) -> bytes:
    """The pickled `World` in which a task begins: the first draw whose instance belongs to the task's split; or the
    `Board` of a published one.

    Drawing a level costs several times what reading it back does, and a task is begun again by each of its sessions.
    """
    from agentrm.environments.babyai.world import World

    if published is not None:
        return pickle.dumps(_board(published))
    draw = 0
    while True:
        engine, view = _level(LEVELS[task.kind], derive_seed(task.seed, task.kind, task.split, task.index, draw))
        content = repr((engine.mission, engine.grid.encode().tolist(), engine.agent_pos, engine.agent_dir))
        if split_of(content) == task.split:
            return pickle.dumps(World(engine, view))
        draw += 1
