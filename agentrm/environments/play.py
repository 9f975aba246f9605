"""Playing a task by hand in the terminal."""

from __future__ import annotations

from rich.console import Console

from agentrm.environments.base import Environment, Task
from agentrm.environments.registry import make

_HELP = "[dim]Type an action; or hint, actions, quit.[/dim]"


def play(name: str, kind: str, split: str, index: int, seed: int, console: Console) -> None:
    """Read actions from the console until the episode ends, then show its grade.

    `hint` shows the oracle's next action while the player is on its path, `actions` what the engine accepts now; the
    end of the input quits. Raises UserError for a task that does not exist.
    """
    task = Task(name, kind, split, index, seed)
    environment = make(name)
    try:
        environment.check(task)
        console.print(f"[bold]{task.id}[/bold]  {_HELP}\n{environment.instruction}\n", markup=True)
        console.print(environment.reset(task).text, markup=False)
        actions = _play(environment, task, console)
        grade = environment.grade()
        console.print(
            f"[bold]{'solved' if grade.success else 'not solved'}[/bold] in {len(actions)} actions: "
            f"outcome {grade.outcome:.2f}, progress {grade.progress:.2f}"
        )
    finally:
        environment.close()


def _play(environment: Environment, task: Task, console: Console) -> list[str]:
    actions: list[str] = []
    oracle: list[str] | None = None
    while len(actions) < environment.max_steps:
        try:
            typed = console.input("[bold]> [/bold]").strip()
        except EOFError:
            break
        if typed == "quit":
            break
        if typed == "hint":
            if oracle is None:
                oracle = environment.expert_actions()
                environment.reset(task)
                for action in actions:
                    environment.step(action)
            console.print(_hint(oracle, actions), markup=False, style="cyan")
        elif typed == "actions":
            console.print("\n".join(environment.admissible_actions()), markup=False, style="cyan")
        elif typed:
            actions.append(typed)
            observation = environment.step(typed)
            console.print(observation.text, markup=False)
            if observation.done:
                break
    return actions


def _hint(oracle: list[str], actions: list[str]) -> str:
    if not oracle:
        return "There is no oracle for this task; `actions` lists what the engine accepts."
    if actions == oracle[: len(actions)] and len(actions) < len(oracle):
        return oracle[len(actions)]
    return "You have left the oracle's path, which was: " + ", ".join(oracle)
