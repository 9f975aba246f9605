"""A run's own policy behind OpenAI's API: vLLM's own server, each replica of it one of Ray Serve's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from ray import serve

from actors.serving import replica_options
from agentrm import storage
from agentrm.config.schema import MOST_QUEUED, Config, Engine
from agentrm.core.errors import ModelError, reason
from agentrm.models.engine import alone_on_gpu, engine_arguments, set_environment
from agentrm.models.tool_calls import CallReader
from agentrm.rendering.renderer import Renderer

if TYPE_CHECKING:
    from vllm.engine.protocol import EngineClient

PREFIX = "/policy"
"""Where the API is below Ray Serve's address; OpenAI's begins at `/policy/v1`."""

# A replica is added when each has more requests than this, of several choices each.
_BUSY = 16


@serve.ingress()
class PolicyServer:
    """vLLM's OpenAI-compatible server of the model in `directory`, called `name` there. It takes the key `api_key`, if
    there is one. Calls of tools are read by the parser `tool_parser` of vLLM's, where the model can make any.
    """

    def __init__(
        self, directory: str, engine: Engine, context: int, tool_parser: str, seed: int, name: str, api_key: str
    ) -> None:
        self._model = storage.fetch(directory)
        self._engine = engine
        self._context = context
        self._parser = _tool_parser(Renderer.from_pretrained(self._model, context), tool_parser)
        self._seed = seed
        self._server = ["--served-model-name", name, *(["--api-key", api_key] if api_key else [])]
        self._open = AsyncExitStack()
        self._client: EngineClient | None = None

    async def __serve_build_asgi_app__(self) -> FastAPI:
        set_environment()
        from vllm import AsyncEngineArgs
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state
        from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client_from_engine_args
        from vllm.entrypoints.launchers.app import build_app
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
        from vllm.utils.argparse_utils import FlexibleArgumentParser

        own = engine_arguments(self._model, self._engine, self._context, self._seed)
        calls = ["--enable-auto-tool-choice", "--tool-call-parser", self._parser] if self._parser else []
        arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(
            ["--model", own["model"], *self._server, *calls]
        )
        with alone_on_gpu(self._engine):
            client = await self._open.enter_async_context(
                build_async_engine_client_from_engine_args(AsyncEngineArgs(**own))
            )
        tasks = await client.get_supported_tasks()
        app = build_app(arguments, tasks, client.model_config)
        await init_app_state(client, app.state, arguments, tasks)
        self._client = client
        return app

    async def check_health(self) -> None:
        """Called by Serve, which replaces the replica when this raises."""
        if self._client:
            await self._client.check_health()

    async def __del__(self) -> None:
        await self._open.aclose()


def _tool_parser(renderer: Renderer, parser: str) -> str:
    """The parser of vLLM's for the calls of a model, "" where its chat template writes none that one reads."""
    try:
        return CallReader(renderer, parser).parser
    except ModelError:
        return ""


@contextmanager
def policy_server(config: Config, directory: storage.Location, application: str, api_key: str) -> Iterator[None]:
    """Serve the policy at the location `directory` on the connected cluster, whose Ray Serve runs, for the block, from
    when it is ready: at `PREFIX`, by the name of its run. Raises ModelError where its engine does not start.
    """
    engine = config.policy_engine
    server = serve.deployment(
        PolicyServer,
        max_ongoing_requests=MOST_QUEUED,
        **replica_options(config, engine, _BUSY),
    ).bind(
        str(directory),
        engine,
        config.model.context,
        config.model.tool_parser,
        config.seed,
        storage.name(config.run),
        api_key,
    )
    try:
        try:
            serve.run(server, name=application, route_prefix=PREFIX)
        except (RuntimeError, TimeoutError) as error:
            raise ModelError(f"the policy in {directory} could not be served: {reason(error)}") from error
        yield
    finally:
        serve.delete(application)
