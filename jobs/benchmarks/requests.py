"""What a scoring request costs beside the engine, and what it carries: whole, and as what it adds to an earlier one.

    agentrm benchmark requests --json

Client and service are this process, over HTTP; the service reads and renders each conversation as it would for an
engine, and answers at once. An episode of each length grows by a step of about 100 tokens per request. `bytes` are
those of a request's body, `cpu_ms` the processor time of client and service together.

Then a pooling engine, with the settings of `reward_engine` and a tiny model of random weights, reads a history of 32k
tokens, and one turn more at a time: `turn_cost` are the tokens that it computed for a turn, by the turn's own. The run
directory is not touched.
"""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import uvicorn
from rich import box
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForSequenceClassification

from agentrm.config.schema import Config, Serve
from agentrm.core.messages import AGENT, Conversation, Message
from agentrm.models.engine import Reading, ScoringEngine
from agentrm.models.initial import train_tokenizer
from agentrm.models.scorers import Input, Per
from agentrm.rendering.renderer import Renderer
from agentrm.service.api import create_app
from agentrm.service.client import AsyncScoringClient
from jobs.runtime import main

_LENGTHS = (4096, 16384, 65536)
_REQUESTS = 40
_HISTORY, _TURN, _TURNS = 32768, 200, 20
_WORDS = ("go to", "the red ball", "a door", "you see", "left", "right", "price", "of", "this item", "buy", "next page")


def run(config: Config, as_json: bool = False) -> dict[str, Any]:
    """Measure; prints and returns all figures."""
    random = Random(config.seed)
    texts = [_text(random, 500) for _ in range(9)]
    renderer = Renderer(train_tokenizer(texts, config.model.scratch.vocabulary, phrases=False), 2 * _LENGTHS[-1])
    with _serving(renderer) as (address, bodies):
        figures: dict[str, Any] = {}
        for tokens in _LENGTHS:
            figures[str(tokens)] = asyncio.run(_both(address, bodies, renderer, random, tokens))
    figures["turn_cost"] = asyncio.run(_turns(config, renderer, random))
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        table = Table("tokens", "", "bytes", "CPU, ms", box=box.SIMPLE_HEAD)
        for length in map(str, _LENGTHS):
            by_way = figures[length]
            for way in ("whole", "difference"):
                table.add_row(length, way, f"{by_way[way]['bytes']:,}", f"{by_way[way]['cpu_ms']:.2f}")
        console = Console(highlight=False)
        console.print(table)
        console.print(f"one turn after {_HISTORY:,} tokens: {figures['turn_cost']:.2f} of its own tokens are computed")
    return figures


def _text(random: Random, words: int) -> str:
    return " ".join(random.choice(_WORDS) for _ in range(words))


def _step(random: Random) -> list[Message]:
    said = f"Thought: {_text(random, 20)}\nAction: {_text(random, 4)}"
    return [{"role": AGENT, "content": said}, {"role": "user", "content": _text(random, 60)}]


async def _turns(config: Config, renderer: Renderer, random: Random) -> float:
    """The tokens that an engine computes for one turn after a long history, by the turn's own."""
    context, vocabulary = _HISTORY + _TURNS * _TURN, len(renderer.tokenizer)
    shape = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=context,
        num_labels=1,
        pad_token_id=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        LlamaForSequenceClassification(shape).save_pretrained(folder)
        renderer.tokenizer.save_pretrained(folder)
        engine = ScoringEngine(Path(folder), config.reward_engine, context)
        try:
            ids = [random.randrange(1, vocabulary) for _ in range(_HISTORY)]
            await engine.read([ids])
            computed = 0
            for _ in range(_TURNS):
                ids += [random.randrange(1, vocabulary) for _ in range(_TURN)]
                (reading,) = await engine.read([ids])
                computed += reading.tokens - reading.cached
        finally:
            engine.close()
    return computed / (_TURNS * _TURN)


async def _both(address: str, bodies: list[int], renderer: Renderer, random: Random, length: int) -> dict[str, Any]:
    messages = _step(random)[1:]
    while len(renderer.ids(messages)) < length:
        messages += _step(random)
    by_way: dict[str, Any] = {}
    for way in ("whole", "difference"):
        async with AsyncScoringClient(address, whole=way == "whole") as client:
            by_way[way] = await _measured(client, random, list(messages), bodies)
    return by_way | {"cpu_ratio": by_way["difference"]["cpu_ms"] / by_way["whole"]["cpu_ms"]}


async def _measured(
    client: AsyncScoringClient, random: Random, messages: list[Message], bodies: list[int]
) -> dict[str, Any]:
    await client.score([messages])
    bodies.clear()
    seconds: list[float] = []
    for _ in range(_REQUESTS):
        messages += _step(random)
        started = time.process_time()
        await client.score([messages])
        seconds.append(time.process_time() - started)
    return {"bytes": round(median(bodies)), "cpu_ms": 1000 * median(seconds)}


@contextmanager
def _serving(renderer: Renderer) -> Iterator[tuple[str, list[int]]]:
    """The scoring API at a free port of this machine, over a model whose values are lengths, and the bytes of the
    bodies that it gets.
    """
    bodies: list[int] = []

    async def score(inputs: list[Input], per: Per) -> list[Reading]:
        lengths = [len(renderer.ids(conversation)) for conversation in inputs if isinstance(conversation, Conversation)]
        return [Reading([float(length)], length, 0) for length in lengths]

    async def healthy() -> bool:
        return True

    app = create_app(score, healthy, Serve(), "lengths", renderer.context)

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        bodies.extend(int(value) for name, value in scope.get("headers", ()) if name == b"content-length")
        await app(scope, receive, send)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(counting, log_level="error"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", bodies
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main(run)
