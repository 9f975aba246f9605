"""The `agentrm` command: each stage of the pipeline, the whole of it, and a look at the environments."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer
import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from agentrm.config.loading import load
from agentrm.config.schema import Method
from agentrm.core.errors import AgentRMError, UserError, chosen
from agentrm.environments.catalogue import describe, describe_measured
from agentrm.environments.perturbations import MARK
from agentrm.environments.registry import environment_class, names
from jobs.terminal.console import console
from jobs.terminal.environments import environment_table

app = typer.Typer(
    help="Reward models that make LLM agents better on tasks that nobody trained them for.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)

job = typer.Typer(help="Jobs that `agentrm submit` started on a cluster.", no_args_is_help=True)
app.add_typer(job, name="job", rich_help_panel="Cluster")
clusters = typer.Typer(help="A cluster before it is there.", no_args_is_help=True)
app.add_typer(clusters, name="cluster", rich_help_panel="Cluster")
Address = Annotated[
    str,
    typer.Option(metavar="URL", help="The cluster's dashboard, http://host:8265 (default: RAY_API_SERVER_ADDRESS)."),
]
JobName = Annotated[str, typer.Argument(metavar="ID", help="As `agentrm submit` printed it.")]

benchmark = typer.Typer(help="Measure this machine.", no_args_is_help=True)
app.add_typer(benchmark, name="benchmark", rich_help_panel="Measurements")

Preset = Annotated[str, typer.Option("--preset", "-p", help="A preset's name or a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the preset, such as clone.epochs=1.")
]
JobArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME] [KEY=VALUE]...",
        help="The experiment's name, if the job is one; then changes to the preset, such as clone.epochs=1.",
    ),
]


def _job(name: str, preset: str, overrides: list[str] | None, **options: Any) -> None:
    from jobs.runtime import execute

    # The configuration is checked before the job's own imports (Ray, torch) are paid for.
    raise typer.Exit(
        execute(lambda config: importlib.import_module(f"jobs.{name}").run(config, **options), preset, overrides or [])
    )


@app.command(rich_help_panel="Pipeline")
def pipeline(overrides: Overrides = None, preset: Preset = "quickstart") -> None:
    """Run all stages, skip what the run directory already holds, print the results."""
    _job("pipeline", preset, overrides)


@app.command(rich_help_panel="Stages")
def demonstrations(overrides: Overrides = None, preset: Preset = "quickstart") -> None:
    """Let the environments' oracles play, and keep their successes as a dataset."""
    _job("demonstrations", preset, overrides)


@app.command(rich_help_panel="Stages")
def clone(overrides: Overrides = None, preset: Preset = "quickstart") -> None:
    """Train the policy on the oracle's demonstrations."""
    _job("clone", preset, overrides)


@app.command(rich_help_panel="Stages")
def trees(
    overrides: Overrides = None,
    preset: Preset = "quickstart",
    stats: Annotated[bool, typer.Option("--stats", help="Describe the trees that are there, and grow none.")] = False,
) -> None:
    """Grow MCTS trees with the policy in the environments."""
    _job("tree_statistics" if stats else "trees", preset, overrides)


@app.command("import", rich_help_panel="Stages")
def import_episodes(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... [KEY=VALUE]...",
            help="Files, directories, patterns or archives of episodes; then form=, outcome=, task=, scale=, "
            "environment=, strict= and other changes to the preset, such as run=runs/mine.",
        ),
    ],
    preset: Preset = "imported",
    check: Annotated[bool, typer.Option("--check", help="Only look: forms, counts, the first problems.")] = False,
) -> None:
    """Make trees of stored episodes, from any agent and without an environment."""
    from jobs.importing import told_apart

    files, overrides = told_apart(sources)
    _job("importing", preset, overrides, sources=files, check=check)


@app.command(rich_help_panel="Stages")
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run directory with trees; or its URI.")],
    form: Annotated[str, typer.Option("--as", metavar="FORM", help="atif, openai, pairs, stepwise, verl or skyrl.")],
    to: Annotated[str, typer.Option(metavar="DIRECTORY", help="Where to write; it must not be there yet.")],
) -> None:
    """Write the trees of a run in a form that other tools read."""
    from jobs.export import run as export_run

    typer.echo(export_run(run, form, to))


@app.command(rich_help_panel="Stages")
def score(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... [KEY=VALUE]...",
            help="Episodes as for `agentrm import`; then form=, outcome=, task=, scale= and other changes to the "
            "configuration, such as reward_engine.replicas=2.",
        ),
    ],
    model: Annotated[str, typer.Option(metavar="RUN", help="A run, or the directory of any reward model.")] = "",
    url: Annotated[str, typer.Option(metavar="URL", help="A scoring service, in place of --model.")] = "",
    api_key: Annotated[str, typer.Option(metavar="KEY", help="The service's key.")] = "",
    to: Annotated[Path, typer.Option(metavar="FILE", help="Where values go, .parquet or .jsonl.")] = Path(
        "values.parquet"
    ),
    preset: Preset = "imported",
) -> None:
    """Value every step of stored episodes, and say what the best of N of them would have been."""
    from jobs.importing import told_apart
    from jobs.score import Source
    from jobs.score import run as score_episodes

    files, overrides = told_apart(sources)
    score_episodes(files, Source(model, url, api_key, preset, overrides), to)


@app.command(rich_help_panel="Stages")
def train(overrides: Overrides = None, preset: Preset = "quickstart") -> None:
    """Train the reward model on the trees' values."""
    _job("train", preset, overrides)


@app.command(rich_help_panel="Stages")
def serve(overrides: Overrides = None, preset: Preset = "quickstart") -> None:
    """Serve the reward model over HTTP until Ctrl-C."""
    _job("serve", preset, overrides)


@app.command(rich_help_panel="Stages")
def gateway(overrides: Overrides = None, preset: Preset = "quickstart") -> None:
    """Answer as gateway.upstream does, with the best of several candidates by the reward model, until Ctrl-C."""
    _job("gateway", preset, overrides)


@app.command(rich_help_panel="Stages")
def improve(overrides: Overrides = None, preset: Preset = "quickstart") -> None:
    """Let the reward model learn from what the gateway has kept in gateway.record, and serve it if it is not worse."""
    _job("improve", preset, overrides)


@app.command(rich_help_panel="Stages")
def evaluate(
    overrides: Overrides = None,
    preset: Preset = "quickstart",
    reward_models: Annotated[
        str, typer.Option(metavar="RUN", help="Show how good a finished run's reward model is on its held-out trees.")
    ] = "",
    trees: Annotated[
        str,
        typer.Option(
            metavar="RUN",
            help="With --reward-models: on this run's held-out trees. It may name any reward model's directory then.",
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="With --reward-models: all figures, for programs.")] = False,
) -> None:
    """Compare test-time searches on held-in and held-out tasks and write the report."""
    if trees and not reward_models:
        raise UserError("--trees says where a reward model is measured: name it with --reward-models")
    if trees:
        from jobs.quality import run as measure
        from jobs.terminal.tables import print_quality

        print_quality(measure(reward_models, trees, overrides or []), as_json)
    elif reward_models:
        from jobs.terminal.tables import print_quality

        print_quality(_measured(reward_models), as_json)
    else:
        _job("evaluate", preset, overrides)


@app.command(rich_help_panel="Stages")
def search(
    overrides: Overrides = None,
    preset: Preset = "quickstart",
    task: Annotated[str, typer.Option(help="Such as babyai.goto_local.test.3 (default: the first held-in task).")] = "",
    method: Annotated[Method, typer.Option(help="One of evaluate.methods.")] = Method.beam,
) -> None:
    """Show one test-time search live: candidates, scores, what was kept."""
    _job("search", preset, overrides, task=task, method=method)


@app.command(rich_help_panel="Pipeline")
def experiment(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of those that --list shows.")] = "",
    overrides: Overrides = None,
    preset: Preset = "quickstart",
    listed: Annotated[bool, typer.Option("--list", help="Say what each experiment compares, and run none.")] = False,
) -> None:
    """Run one of the paper's experiments on top of a run, or what is missing of it; print its table."""
    from agentrm.evaluation.experiments import EXPERIMENTS

    if not listed:
        chosen("experiment", name, EXPERIMENTS, hint="; --list says what they compare")
        _job("experiment", preset, overrides, experiment=name)
    for label, about in EXPERIMENTS.items():
        typer.echo(f"{label}: {about.question}\n  In the paper: {about.paper}")


@app.command(rich_help_panel="Pipeline")
def reproduce(
    table: Annotated[str, typer.Argument(help="main, robustness, weak-to-strong, scaling, ablation or kinds.")],
    overrides: Overrides = None,
    preset: Preset = "llama3-8b",
    only_plan: Annotated[bool, typer.Option("--plan", help="Say what it will cost, and start nothing.")] = False,
    agreed: Annotated[bool, typer.Option("--yes", help="Start without asking.")] = False,
) -> None:
    """Make one of the paper's tables for a model: say what is missing and its cost, ask, and run that."""
    _job("reproduce", preset, overrides, table=table, only_plan=only_plan, agreed=agreed)


@app.command(rich_help_panel="Pipeline")
def pool(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Evaluated runs that differ in their seeds.")],
    live: Annotated[bool, typer.Option("--live", help="Those of `agentrm benchmark agent`.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Pool the episodes of several runs: outcomes, and the paired lead over the best of what needs no reward model."""
    from agentrm.evaluation.metrics import summarise
    from agentrm.evaluation.pooling import EVALUATION, LIVE, pooled
    from agentrm.reports.report import by_group
    from jobs.terminal.tables import print_results

    results = by_group(summarise(pooled(runs, LIVE if live else EVALUATION), ["group"]))
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        print_results(results, console())


@app.command(rich_help_panel="Pipeline")
def view(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run directory, finished or not; or its URI.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0: any free port.")] = 8400,
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Show the page in the browser.")] = True,
    model: Annotated[
        str, typer.Option(metavar="RUN", help="Ask this run's or directory's reward model, not the run's own.")
    ] = "",
    values: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Show the values that `agentrm score` wrote of its episodes.")
    ] = None,
    recorded: Annotated[
        str, typer.Option(metavar="DIRECTORY", help="What a gateway has recorded (default: the run's gateway.record).")
    ] = "",
) -> None:
    """Look at a run in the browser: stages, curves, results, search trees, episodes and recorded conversations."""
    from agentrm.view.server import view as serve_view

    serve_view(run, port, opens, model, values, recorded)


@benchmark.command("trees")
def benchmark_trees(
    overrides: Overrides = None,
    preset: Preset = "quickstart",
    count: Annotated[int, typer.Option("--trees", min=1, help="How many trees ours grows.")] = 32,
    seconds: Annotated[float, typer.Option(min=1, help="How long each of the slow ways may take.")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Tree building against one request at a time, against transformers, and against the engine's limit."""
    _job("benchmarks.trees", preset, overrides, trees=count, seconds=seconds, as_json=as_json)


@app.command(rich_help_panel="Environments")
def play(
    name: Annotated[str, typer.Argument(help="The environment's name, or NAME+PERTURBATION.")],
    kind: Annotated[str | None, typer.Option(help="The level or task type (default: the first).")] = None,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "train",
    index: Annotated[int, typer.Option(help="The task's number within kind and split.")] = 0,
    seed: Annotated[int, typer.Option(help="The universe of generated tasks.")] = 0,
) -> None:
    """Play one task in the terminal."""
    from jobs.terminal.play import play as play_task

    play_task(name, kind or environment_class(name).kinds[0], split, index, seed, Console(highlight=False))


@app.command(rich_help_panel="Environments")
def environments(
    measured: Annotated[
        bool, typer.Option("--measure", help="Measure costs and the oracle here, for minutes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the environments, their engines and their tasks."""
    rows = [describe_measured(name) if measured else describe(name) for name in names()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    terminal = console()
    terminal.print(environment_table(rows))
    for row in rows:
        terminal.print(f"{row['name']}: {row['engine']}, licence {row['licence']}", markup=False)
        if row["perturbations"]:
            wordings = ", ".join(f"{row['name']}{MARK}{wording}" for wording in row["perturbations"])
            terminal.print(f"  in other wordings: {wordings}", markup=False)
        if row["problem"]:
            terminal.print(f"  not here: {row['problem']}", markup=False)


@benchmark.command("train")
def benchmark_train(
    overrides: Overrides = None,
    preset: Preset = "quickstart",
    count: Annotated[int, typer.Option("--trees", min=1, help="How many of the run's trees to train on.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Training against one padded sequence per state, and against the model's own dense rate."""
    _job("benchmarks.train", preset, overrides, trees=count, as_json=as_json)


@app.command(rich_help_panel="Cluster")
def submit(
    name: Annotated[
        str,
        typer.Argument(
            metavar="JOB",
            help="demonstrations, clone, trees, train, evaluate, pipeline, serve, gateway, improve, import or score "
            "with what they are given (options behind --), experiment and its NAME, or reproduce and its TABLE.",
        ),
    ],
    arguments: JobArguments = None,
    preset: Annotated[
        str,
        typer.Option("--preset", "-p", help="A preset's name or a YAML file.", show_default="that of the command"),
    ] = "",
    address: Address = "",
    wait: Annotated[bool, typer.Option(help="Follow the job's log to its end.")] = True,
) -> None:
    """Run a stage, an import, the scoring service or an experiment on a Ray cluster, with the current directory as the
    job's.
    """
    from jobs.submit import submit as submit_job

    print(submit_job(name, preset, arguments or [], address, wait))


@job.command("status")
def job_status(name: JobName, address: Address = "") -> None:
    """Print PENDING, RUNNING, SUCCEEDED, STOPPED or FAILED."""
    from jobs.submit import status

    print(status(name, address))


@job.command("logs")
def job_logs(name: JobName, address: Address = "") -> None:
    """Print the log, and what comes until the job ends."""
    from jobs.submit import follow

    follow(name, address)


@job.command("stop")
def job_stop(name: JobName, address: Address = "") -> None:
    """End a job; what it has committed stays, and submitting it again goes on from there."""
    from jobs.submit import stop

    stop(name, address)


@clusters.command("check")
def cluster_check(
    overrides: Overrides = None,
    preset: Preset = "quickstart",
    file: Annotated[Path | None, typer.Option(help="A description as in cluster.yaml (default: this machine).")] = None,
) -> None:
    """Say where each stage's actors go and whether their memory is there, and start nothing."""
    from agentrm.cluster.description import read, this_machine
    from agentrm.cluster.fit import resolve

    config = load(preset, overrides or [])
    rows = resolve(config, read(file) if file else this_machine(config))
    table = Table("stage", "actors", "where", "memory of", "needs GiB", "has GiB", "fits", box=box.SIMPLE_HEAD)
    for row in rows:
        sizes = ("" if size is None else f"{size:.1f}" for size in (row.needs_gib, row.has_gib))
        table.add_row(row.stage, row.what, row.where, row.memory, *sizes, "no" if row.fault else "yes")
    terminal = console()
    terminal.print(table)
    if faults := [row.fault for row in rows if row.fault]:
        raise UserError(faults[0])


@clusters.command("render")
def cluster_render(
    image: Annotated[str, typer.Option(help="An image with AgentRM in it, such as the Dockerfile of --output makes.")],
    arguments: JobArguments = None,
    preset: Preset = "quickstart",
    file: Annotated[Path, typer.Option(help="The cluster's description.")] = Path("cluster.yaml"),
    job: Annotated[str, typer.Option(help="The job of the RayJob, as in `agentrm submit`.")] = "pipeline",
    namespace: Annotated[str, typer.Option(help="The Kubernetes namespace.")] = "default",
    claim: Annotated[str, typer.Option(help="The PersistentVolumeClaim that all pods share.")] = "agentrm",
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Write files here (default: print YAML).")] = None,
) -> None:
    """Write the cluster for Kubernetes: a RayCluster, a RayJob and a RayService for KubeRay."""
    from agentrm.cluster import kuberay
    from agentrm.cluster.description import read
    from jobs.submit import checked

    given = arguments or []
    config, chosen = checked(job, preset, given)
    cluster, target = read(file), kuberay.Target(image, namespace, claim)
    manifests = {
        "raycluster": kuberay.ray_cluster(cluster, target),
        "rayjob": kuberay.ray_job(cluster, target, config, job, preset, given),
        "rayservice": kuberay.ray_service(cluster, target, config, preset, chosen),
    }
    if output is None:
        typer.echo(yaml.safe_dump_all(manifests.values(), sort_keys=False), nl=False)
        return
    output.mkdir(parents=True, exist_ok=True)
    (output / "Dockerfile").write_text(kuberay.dockerfile(cluster))
    (output / "Dockerfile.dockerignore").write_text("\n".join(cluster.rsync_exclude) + "\n")
    for name, manifest in manifests.items():
        (output / f"{name}.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))


@benchmark.command("memory")
def benchmark_memory(
    overrides: Overrides = None,
    preset: Preset = "quickstart",
    tokens: Annotated[int, typer.Option(min=2, help="How long the rows are that are trained on.")] = 1024,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What each worker of a fit holds at most, on a model with random weights."""
    _job("benchmarks.memory", preset, overrides, tokens=tokens, as_json=as_json)


@benchmark.command("requests")
def benchmark_requests(
    overrides: Overrides = None,
    preset: Preset = "quickstart",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What scoring requests carry and cost beside the engine, whole and as differences."""
    _job("benchmarks.requests", preset, overrides, as_json=as_json)


@benchmark.command("search")
def benchmark_search(
    overrides: Overrides = None,
    preset: Preset = "quickstart",
    episodes: Annotated[int, typer.Option(min=1, help="How many held-in tasks are searched at a time.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Beam search of many episodes against the engines' offline rate on the same requests."""
    _job("benchmarks.search", preset, overrides, episodes=episodes, as_json=as_json)


@benchmark.command("shop")
def benchmark_shop(
    products: Annotated[int, typer.Option(min=100, help="How many products the shop has.")] = 200_000,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What WebShop's data costs: its index, the first reset, a search, memory; reckoned up to the full shop."""
    from jobs.benchmarks import shop

    shop.run(products, as_json)


@benchmark.command("searchers")
def benchmark_searchers(
    overrides: Overrides = None,
    preset: Preset = "quickstart",
    count: Annotated[int, typer.Option("--tasks", min=10, help="How many tasks one searcher works off.")] = 1120,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What searching costs beside models and environments, in the driver and in searchers."""
    _job("benchmarks.searchers", preset, overrides, count=count, as_json=as_json)


@benchmark.command("score")
def benchmark_score(
    overrides: Overrides = None,
    preset: Preset = "quickstart",
    count: Annotated[int, typer.Option("--trees", min=2, help="How many of the run's trees to score.")] = 512,
    clients: Annotated[int, typer.Option(min=1, help="How many clients load the service at once.")] = 200,
    seconds: Annotated[float, typer.Option(min=1, help="For how long they do.")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Scoring over HTTP against the engine called directly, against transformers, and under load."""
    _job("benchmarks.score", preset, overrides, trees=count, clients=clients, seconds=seconds, as_json=as_json)


@benchmark.command("gateway")
def benchmark_gateway(
    overrides: Overrides = None,
    preset: Preset = "quickstart",
    clients: Annotated[int, typer.Option(min=1, help="At the same time, at most.")] = 200,
    seconds: Annotated[float, typer.Option(min=1, help="How long the clients ask.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What the gateway adds to the time of the run's own policy, and how many clients it holds."""
    _job("benchmarks.gateway", preset, overrides, clients=clients, seconds=seconds, as_json=as_json)


@benchmark.command("agent")
def benchmark_agent(
    overrides: Overrides = None,
    preset: Preset = "quickstart",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What an agent with the plain `openai` client gains by the gateway on the run's test tasks, one live episode each;
    what is played already is not played again.
    """
    _job("benchmarks.agent", preset, overrides, as_json=as_json)


@benchmark.command("rewards")
def benchmark_rewards(
    data: Annotated[Path, typer.Option(metavar="DIRECTORY", help="Where your copies of the benchmarks lie.")],
    overrides: Overrides = None,
    model: Annotated[str, typer.Option(metavar="RUN", help="A run, or the directory of any reward model.")] = "",
    url: Annotated[str, typer.Option(metavar="URL", help="A scoring service, in place of --model.")] = "",
    api_key: Annotated[str, typer.Option(metavar="KEY", help="The service's key.")] = "",
    preset: Preset = "imported",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """A reward model on the benchmarks of others, beside what needs no model."""
    from agentrm.evaluation.metrics import Settings
    from jobs.benchmarks.rewards import run as measure
    from jobs.score import Source

    source = Source(model, url, api_key, preset, overrides or []) if model or url else None
    measure(data, source, Settings.of(source.config if source else load(preset, overrides or [])), as_json)


def _measured(run: str) -> dict[str, Any]:
    """What `agentrm train` measured of a run's reward model."""
    from agentrm.run import RunDirectory

    metrics = RunDirectory.existing(run).metrics("train")
    if not metrics:
        raise UserError(f"{run} has no reward model yet: run `agentrm train {quote(f'run={run}')}` first")
    return metrics["held_out"]


def main() -> None:
    """The console script; an expected error is one line on stderr."""
    try:
        app()
    except AgentRMError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
