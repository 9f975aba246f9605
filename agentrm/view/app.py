"""The viewer's HTTP form: one page, and JSON that is read from the run directory when it is asked for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from agentrm import storage
from agentrm.config.loading import resolved
from agentrm.core.errors import UserError
from agentrm.core.tree import Tree
from agentrm.data.trees import TreeStore, from_table
from agentrm.reports import quality_table
from agentrm.reports.page import STYLE
from agentrm.reports.plots import loss_curves, outcome_against_tokens, outcome_bars
from agentrm.reports.report import HEADINGS, cells, fit_losses, row_class
from agentrm.run import RunDirectory, reward_model
from agentrm.view import episodes, trees
from agentrm.view.episodes import ScoredFile
from agentrm.view.sessions import Sessions
from agentrm.view.stages import stages
from agentrm.view.values import Valuer

_PAGE = Path(__file__).parent / "page"
_TREES_A_PAGE = 100
_TREES_KEPT = 8

# Other pages in the user's browser can neither frame this one nor reach it by a name of their own that points here, and
# a text of an environment could not run if it were ever taken for HTML. The figures carry styles of their own.
_HOSTS = ["127.0.0.1", "localhost"]
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


def create_app(
    run: RunDirectory, model: storage.Location = "", values: Path | None = None, recorded: storage.Location = ""
) -> FastAPI:
    """The application over one run, for localhost. `model`, a run or a directory, is asked for values in place of the
    run's own reward model; `values` is a file of `agentrm score` that has those of episodes; `recorded` is what a
    gateway has kept (default: where the run says). Errors are JSON, `{"error": {"message"}}`; 404 for what is not
    there, 409 for a file that cannot be read or has just gone. Raises UserError for a model or a file of values that is
    not there.
    """
    store = TreeStore(run.at("trees"))
    sessions = Sessions(recorded or run.config.gateway.record)
    scorer, trained = reward_model(model) if model else (run.at("reward_model"), run)
    if model and "config.json" not in storage.names(scorer):
        raise UserError(
            f"{model} holds no reward model, as config.json is not in it: name a run or a model's directory"
        )
    valuer = Valuer(scorer, (trained or run).config.model.context)
    scored_file = None if values is None else ScoredFile(values)
    figures = _Figures()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        valuer.close()

    app = FastAPI(title="AgentRM", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)

    def read(tree_id: str) -> Tree:
        return sessions.conversation(tree_id).tree if sessions.holds(tree_id) else grown(tree_id)

    @lru_cache(maxsize=_TREES_KEPT)
    def grown(tree_id: str) -> Tree:
        if tree_id not in store.finished():
            raise HTTPException(404, f"there is no tree {tree_id} in this run")
        return from_table(store.table(tree_id))

    def of_task(tree_id: str) -> list[Tree]:
        if sessions.holds(tree_id):
            return [read(tree_id)]
        task = grown(tree_id).task.id
        ids = sorted(name for name in store.finished() if name.partition("@")[0] == task)
        return [read(name) for name in ids]

    def scored(tree: Tree) -> dict[int, list[float | None]]:
        return {} if scored_file is None else scored_file.of(tree)

    def check_node(tree: Tree, node: int) -> None:
        if not 0 <= node < len(tree.nodes):
            raise HTTPException(404, f"tree {tree.id} has no node {node}")

    def begin(name: str, tree: Tree, nodes: Sequence[int]) -> dict[str, Any]:
        if not (model or run.finished("reward_model")):
            raise HTTPException(404, "this run has no reward model yet: run `agentrm train` first, or name a --model")
        valuer.begin(name, tree, nodes)
        return valuer.state(name)

    @app.get("/")
    def index() -> FileResponse:
        return FileResponse(_PAGE / "index.html")

    @app.get("/report.css")
    def style() -> Response:
        return Response(STYLE, media_type="text/css")

    @app.get("/api/run")
    def overview() -> dict[str, Any]:
        return {
            "name": storage.name(run.location),
            "path": run.location,
            "stages": stages(run),
            "versions": run.metrics("versions"),
            "config": resolved(run.config),
        }

    @app.get("/api/curves")
    def curves() -> dict[str, Any]:
        losses = fit_losses(run)
        return {"losses": losses, "figure": figures.draw(loss_curves, losses)}

    @app.get("/api/results")
    def results() -> dict[str, Any]:
        metrics = run.metrics("evaluate")
        groups = {
            name: [row | {"method": method} for method, row in methods.items()] for name, methods in metrics.items()
        }
        return {
            "headings": HEADINGS,
            "groups": [
                {
                    "name": name,
                    "tasks": rows[0]["tasks"],
                    "rows": [{"class": row_class(row["method"]), "cells": cells(row)} for row in rows],
                }
                for name, rows in groups.items()
            ],
            "figures": {
                "outcome": figures.draw(outcome_bars, groups),
                "budget": figures.draw(outcome_against_tokens, groups),
            },
        }

    @app.get("/api/quality")
    def quality() -> dict[str, Any]:
        metrics = run.metrics("train").get("held_out", {})
        return {
            "headings": quality_table.HEADINGS,
            "rows": [
                {"class": "scored" if quality_table.is_judged(row) else "baseline", "cells": row}
                for row in quality_table.rows(metrics)
            ],
            "verdicts": quality_table.verdicts(metrics),
        }

    @app.get("/api/trees")
    def list_trees(text: str = "", start: Annotated[int, Query(ge=0)] = 0) -> dict[str, Any]:
        return trees.page(store, sessions, text, start, _TREES_A_PAGE)

    @app.get("/api/trees/{tree_id}")
    def tree(tree_id: str) -> dict[str, Any]:
        recorded = sessions.conversation(tree_id) if sessions.holds(tree_id) else None
        return trees.nodes(recorded.tree if recorded else grown(tree_id), recorded)

    @app.get("/api/trees/{tree_id}/path/{node}")
    def path(tree_id: str, node: int) -> list[dict[str, Any]]:
        tree = read(tree_id)
        check_node(tree, node)
        return trees.steps(tree, node)

    @app.get("/api/trees/{tree_id}/matches")
    def matches(tree_id: str, text: Annotated[str, Query(min_length=1)]) -> list[int]:
        return list(trees.matches(read(tree_id), text))

    @app.get("/api/trees/{tree_id}/values")
    def tree_values(tree_id: str) -> dict[str, Any]:
        return valuer.state(tree_id)

    @app.post("/api/trees/{tree_id}/values")
    def begin_tree_values(tree_id: str) -> dict[str, Any]:
        tree = read(tree_id)
        return begin(tree_id, tree, range(len(tree.nodes)))

    @app.get("/api/trees/{tree_id}/episodes")
    def list_episodes(tree_id: str) -> list[dict[str, Any]]:
        task_trees = of_task(tree_id)
        return episodes.listed(task_trees, {tree.id: scored(tree) for tree in task_trees})

    @app.get("/api/episodes/{tree_id}/{node}")
    def episode(tree_id: str, node: int) -> dict[str, Any]:
        tree = read(tree_id)
        check_node(tree, node)
        name = "" if scored_file is None else scored_file.name
        return episodes.shown(tree, node, scored(tree).get(node)) | {"scored_by": name}

    @app.get("/api/episodes/{tree_id}/{node}/values")
    def episode_values(tree_id: str, node: int) -> dict[str, Any]:
        return valuer.state(f"{tree_id}/{node}")

    @app.post("/api/episodes/{tree_id}/{node}/values")
    def begin_episode_values(tree_id: str, node: int) -> dict[str, Any]:
        tree = read(tree_id)
        check_node(tree, node)
        return begin(f"{tree_id}/{node}", tree, tree.path(node))

    app.mount("/page", StaticFiles(directory=_PAGE))

    @app.middleware("http")
    async def guarded(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.exception_handler(UserError)
    async def unreadable(_: Request, error: UserError) -> JSONResponse:
        return _error(409, str(error))

    @app.exception_handler(FileNotFoundError)
    async def moved(_: Request, error: FileNotFoundError) -> JSONResponse:
        # A stage that ends removes its work while it is being read.
        return _error(409, f"{error.filename} has just gone, as the run goes on: refresh")

    @app.exception_handler(StarletteHTTPException)
    async def refused(_: Request, error: StarletteHTTPException) -> JSONResponse:
        return _error(error.status_code, str(error.detail))

    return app


class _Figures:
    """The drawings as they are now; one that would look the same is not drawn again."""

    def __init__(self) -> None:
        # matplotlib's settings belong to the process, and requests are answered in threads.
        self._drawing = Lock()
        self._drawn: dict[str, tuple[str, str]] = {}

    def draw(self, plot: Callable[[Any], str], data: Mapping[str, Any]) -> str:
        """The SVG of a plot of `data`, "" where there is none."""
        if not data:
            return ""
        text = json.dumps(data)
        with self._drawing:
            if self._drawn.get(plot.__name__, ("", ""))[0] != text:
                self._drawn[plot.__name__] = text, plot(data)
            return self._drawn[plot.__name__][1]


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message}}, status)
