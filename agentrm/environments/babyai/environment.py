"""BabyAI on minigrid: 2-D rooms described in text, with high-level actions in the manner of AgentBoard."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from agentrm.core.task import Grade, Observation, Task
from agentrm.environments.base import Environment, Turn
from agentrm.environments.rewriting import Rewriting
from agentrm.environments.support import (
    COMPLETED,
    GENERATED_SIZES,
    check_kind,
    derive_seed,
    digest,
    engine_import,
    split_of,
)

if TYPE_CHECKING:
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


class BabyAI(Environment):
    """BabyAI levels; a kind is a level, its tasks are drawn by seed.

    The agent sees a 7 by 7 view ahead of it and may act on all that it has seen, which the observations number:
    `go to`, `pick up`, `put next to`, `go through` and `toggle and go through` plan over the known part of the grid.
    An instance belongs to the split that its content hashes to, so that no two splits share one. Outcome
    and progress are the share of the mission's subgoals (targets found, reached, carried, done), as in AgentBoard.
    """

    name: ClassVar[str] = "babyai"
    engine: ClassVar[str] = "minigrid 3.2.0"
    licence: ClassVar[str] = "MIT"
    kinds: ClassVar[tuple[str, ...]] = tuple(LEVELS)
    max_steps: ClassVar[int] = 30
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

            from agentrm.environments.babyai import oracle as babyai_oracle
            from agentrm.environments.babyai import world as babyai_world
        self._oracle, self._worlds = babyai_oracle, babyai_world
        self._task: Task | None = None
        self._world: World | None = None

    @classmethod
    def size(cls, kind: str, split: str) -> int:
        check_kind(cls.name, cls.kinds, kind, split)
        return GENERATED_SIZES[split]

    def reset(self, task: Task) -> Observation:
        self.check(task)
        self._task = task
        self._world = pickle.loads(_start(task))
        return Observation(f"Your task: {self._live.engine.mission}. {self._live.describe()}")

    def step(self, action: str) -> Observation:
        text = self._live.act(action)
        if self._live.status == "success":
            text = f"{text} {COMPLETED}"
        return Observation(text, done=bool(self._live.status))

    def grade(self) -> Grade:
        progress = self._live.progress()
        return Grade(outcome=progress, progress=progress, success=self._live.status == "success")

    def expert_actions(self) -> list[str]:
        assert self._task is not None
        self.reset(self._task)
        actions = self._oracle.solve(self._live, self.max_steps)
        self.reset(self._task)
        return actions

    def thought(self, plan: Sequence[str]) -> str:
        return self._oracle.thought(self._live, plan)

    def admissible_actions(self) -> list[str]:
        verbs = ["go to", "pick up", "put next to"]
        actions = list(self._worlds.PRIMITIVES)
        for thing, name in self._live.names.items():
            door_verbs = ["go through", "toggle and go through"] if thing.type == "door" else []
            actions += [f"{verb} {name}" for verb in verbs + door_verbs if (verb, thing.type) != ("pick up", "door")]
        return actions

    def fingerprint(self) -> str:
        world = self._live
        engine = world.engine
        here = {name: place for thing, place in world.positions().items() if (name := world.names.get(thing))}
        carried = world.names.get(engine.carrying)
        cells, direction = engine.grid.encode().tolist(), int(engine.agent_dir)
        known = sorted(here.items()), sorted(world.seen), carried
        return digest(cells, world.position, direction, known, world.milestones, world.status)

    def snapshot(self) -> Any:
        return self._task, pickle.dumps(self._live)

    def restore(self, state: Any) -> None:
        self._task, world = state
        self._world = pickle.loads(world)

    def close(self) -> None:
        self._world = None

    @property
    def _live(self) -> World:
        assert self._world is not None, "reset(task) comes first"
        return self._world


def _level(kind: str, seed: int) -> tuple[Any, Any]:
    """A fresh engine of a level and its first view; the engine prints each rejected draw, which nobody reads."""
    import gymnasium

    with redirect_stdout(io.StringIO()):
        engine: Any = gymnasium.make(LEVELS[kind], disable_env_checker=True).unwrapped
        view, _ = engine.reset(seed=seed)
    # The engine counts turns of the body against a limit of its own; ours is `max_steps`, in actions.
    engine.max_steps = 10**9
    # Nothing reads these again, and every snapshot would hold them.
    engine.observation_space = engine.action_space = None
    return engine, view


@lru_cache(maxsize=1024)
def _start(task: Task) -> bytes:
    """The pickled `World` in which a task begins: the first draw whose instance belongs to the task's split.

    Drawing a level costs several times what reading it back does, and a task is begun again by each of its sessions.
    """
    from agentrm.environments.babyai.world import World

    draw = 0
    while True:
        engine, view = _level(task.kind, derive_seed(task.seed, task.kind, task.split, task.index, draw))
        content = repr((engine.mission, engine.grid.encode().tolist(), engine.agent_pos, engine.agent_dir))
        if split_of(content) == task.split:
            return pickle.dumps(World(engine, view))
        draw += 1
