"""Playing a task by hand in the terminal."""

from __future__ import annotations

from functools import cached_property

from rich.console import Console

from agentrm.core.task import Task
from agentrm.environments.hosting.sessions import Actions, SessionPool
from agentrm.environments.registry import environment_class

_HELP = "Type an action; or hint, actions, progress, quit."


def play(name: str, kind: str, split: str, index: int, seed: int, console: Console) -> None:
    """Read actions from the console until the episode ends, then show its grade.

    `hint` shows the oracle's next action, off its plan too where the rest of the plan still works; `actions` what the
    engine accepts now; `progress` the share of subgoals reached. The end of the input quits. Raises UserError for a
    task that does not exist.
    """
    environment = environment_class(name)
    task = environment.task(kind, split, index, seed)
    pool = SessionPool(max_sessions=1)
    try:
        first = pool.observe(task, ())
        console.print(f"{task.id}  {_HELP}", style="bold", markup=False)
        console.print(f"{environment.guide(task.kind)[0]}\n\n{first.text}", markup=False)
        player = _Player(pool, task, environment.max_steps)
        player.play(console)
        grade = pool.grade(task, player.actions)
        console.print(
            f"[bold]{'solved' if grade.success else 'not solved'}[/bold] in {len(player.actions)} actions: "
            f"outcome {grade.outcome:.2f}, progress {grade.progress:.2f}"
        )
    finally:
        pool.close()


class _Player:
    """What the player has done so far, and what the oracle would do."""

    def __init__(self, pool: SessionPool, task: Task, max_steps: int) -> None:
        self._pool = pool
        self._task = task
        self._max_steps = max_steps
        self.actions: Actions = ()

    def play(self, console: Console) -> None:
        """Take actions until the episode ends, by itself or by the step limit, or the player quits."""
        while not self._pool.observe(self._task, self.actions).done and len(self.actions) < self._max_steps:
            try:
                typed = console.input("[bold]> [/bold]").strip()
            except EOFError:
                return
            if typed == "quit":
                return
            if typed == "hint":
                console.print(self.hint(), markup=False, style="cyan")
            elif typed == "actions":
                admissible = self._pool.admissible_actions(self._task, self.actions)
                console.print("\n".join(admissible), markup=False, style="cyan")
            elif typed == "progress":
                grade = self._pool.grade(self._task, self.actions)
                console.print(f"progress {grade.progress:.2f}", style="cyan")
            elif typed:
                self.actions += (typed,)
                console.print(self._pool.observe(self._task, self.actions).text, markup=False)

    def hint(self) -> str:
        """The oracle's next action; off its plan, the one from which what is left of the plan succeeds."""
        plan = self._plan
        if not plan:
            return "There is no oracle for this task; `actions` lists what the engine accepts."
        reached = 0
        for action in self.actions:
            reached += reached < len(plan) and action == plan[reached]
        if reached == len(self.actions) < len(plan):
            return plan[reached]
        # Whoever has left the plan has most often done too much, sometimes undone something, seldom jumped ahead.
        starts = [*range(min(reached, len(plan) - 1), -1, -1), *range(reached + 1, len(plan))]
        start = next((start for start in starts if self._succeeds(plan[start:])), None)
        if start is None:
            return "The oracle's plan does not succeed from here. From the beginning it was: " + ", ".join(plan)
        while self._succeeds(plan[start + 1 :]):
            start += 1
        return plan[start]

    @cached_property
    def _plan(self) -> Actions:
        return tuple(self._pool.expert_actions(self._task))

    def _succeeds(self, plan: Actions) -> bool:
        for count in range(1, len(plan) + 1):
            if self._pool.observe(self._task, self.actions + plan[:count]).done:
                return self._pool.grade(self._task, self.actions + plan[:count]).success
        return False
