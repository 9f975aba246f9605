"""vLLM engines that live in this process: one loop thread steps the engine, many coroutines share its batches."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import count, islice
from math import nan
from pathlib import Path
from typing import Any

from filelock import FileLock

from agentrm import storage
from agentrm.config.schema import Engine
from agentrm.core.errors import InputRefused, ModelError
from agentrm.core.protocols import CostedValue
from agentrm.models.adapters import classifier, kept, one_base, rank_of
from agentrm.models.ensemble import lower_confidence
from agentrm.models.padding import read_at

# One process per engine and one thread per CPU core: vLLM reads these when it is imported. oneDNN keeps a kernel of
# about a megabyte for each number of tokens that a batch had, 1,024 of them by default, and makes one in no time.
_ENVIRONMENT = {
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}

_BATCHED_TOKENS = 4096

# vLLM keeps what describes the running batch in globals of its modules, so engines of one process take turns.
_STEPPING = threading.Lock()

# A request's future, with its output or the error.
_Answer = tuple[asyncio.Future, Any, Exception | None]


def set_environment() -> None:
    """What vLLM reads when it is imported, where the user has set nothing else."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)


def engine_arguments(directory: str | Path, engine: Engine, context: int, seed: int = 0) -> dict[str, Any]:
    """The configuration of one engine as vLLM names it. Raises ModelError where the directory holds no model."""
    if not Path(directory, "config.json").is_file():
        raise ModelError(f"{directory} holds no model (config.json is missing)")
    device: dict[str, Any]
    if engine.gpus:
        device = {
            "gpu_memory_utilization": engine.gpu_memory_utilization,
            "tensor_parallel_size": engine.tensor_parallel,
        }
    else:
        # A prompt in two chunks rewinds its request's random generator, which torch's CPU generator cannot do.
        device = {
            "kv_cache_memory_bytes": int(engine.kv_cache_gib * 2**30),
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(context, _BATCHED_TOKENS),
        }
    return {
        # It looks for weights by a pattern that begins with this path.
        "model": str(storage.plain(Path(directory))),
        "dtype": engine.dtype,
        "max_model_len": context,
        "max_num_seqs": engine.max_num_seqs,
        "block_size": engine.block_size,
        "enforce_eager": engine.eager,
        "enable_prefix_caching": True,
        "seed": seed,
        "trust_remote_code": False,
        **device,
    }


class EngineLoop:
    """Steps one vLLM `LLM` in a thread of its own and resolves each request's future when it has finished.

    A request that the engine refuses raises InputRefused in its caller; an engine that dies fails all waiting callers.
    It may name one of `adapters`, directories in PEFT's form, whose model is the base that is loaded then.
    """

    def __init__(
        self,
        directory: str | Path,
        engine: Engine,
        context: int,
        runner: str,
        seed: int = 0,
        adapters: Sequence[Path] = (),
    ) -> None:
        set_environment()
        with _all_stays():
            import torch
            from vllm import LLM
            from vllm.exceptions import VLLMClientError
            from vllm.lora.request import LoRARequest
            from vllm.model_executor.models import registry

        self._refusals = (VLLMClientError, ValueError, TypeError)
        if engine.eager and not engine.gpus:
            # Else the sampler's few compiled functions take a second of the first request, and save nothing.
            torch.compiler.set_stance("force_eager")
        if not engine.gpus:
            # The first engine of a machine would import everything once more in another process to look at its model's
            # class, lest CUDA be initialised in this one.
            registry._run_in_subprocess = lambda look: look()
        self._adapters = {
            path: LoRARequest(str(path), number, str(path)) for number, path in enumerate(adapters, start=1)
        }
        arguments = engine_arguments(directory, engine, context, seed) | (_lora(adapters) if adapters else {})
        with alone_on_gpu(engine), _all_stays():
            self._llm = LLM(runner=runner, **arguments)
        self._core = self._llm.llm_engine
        self.vocabulary: int = self._core.model_config.get_vocab_size()
        self.pad: int | None = self._core.model_config.hf_text_config.pad_token_id
        self._names = count()
        self._inbox: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"vllm-{runner}", daemon=True)
        self._thread.start()

    async def request(
        self, ids: Sequence[int], parameters: Any, adapter: Path | None = None, known: bool = False
    ) -> Any:
        """The engine's finished output for one prompt of token ids, by one of its adapters. `known`: all of them are in
        the `vocabulary`, which takes a while to see of a long prompt. Raises InputRefused.
        """
        if not known and max(ids) >= self.vocabulary:
            raise InputRefused(f"the token id {max(ids)} is not in the model's vocabulary of {self.vocabulary}")
        future: asyncio.Future = asyncio.get_running_loop().create_future()
        lora = None if adapter is None else self._adapters[adapter]
        self._inbox.put((list(ids), parameters, lora, future))
        if not self.alive:
            raise ModelError("the vLLM engine has stopped: restart its replica")
        return await future

    @property
    def alive(self) -> bool:
        """Whether the engine still takes requests."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop the loop; requests that still wait fail."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        waiting: dict[str, asyncio.Future] = {}
        error: Exception = ModelError("the vLLM engine was closed")
        try:
            while self._admit(waiting):
                with _STEPPING:
                    finished = [output for output in self._core.step() if output.finished]
                _resolve([(waiting.pop(output.request_id), output, None) for output in finished])
        except Exception as failure:  # the engine's own crash: every waiting caller must hear of it
            error = ModelError(f"the vLLM engine failed: {failure!r}")
        unanswered = list(waiting.values())
        while not self._inbox.empty():
            if item := self._inbox.get():
                unanswered.append(item[-1])
        _resolve([(future, None, error) for future in unanswered])

    def _admit(self, waiting: dict[str, asyncio.Future]) -> bool:
        """Hand all new requests to the engine, sleeping when there is nothing to do; False to stop."""
        while not self._inbox.empty() or not waiting:
            item = self._inbox.get()
            if item is None:
                return False
            ids, parameters, lora, future = item
            name = str(next(self._names))
            try:
                self._core.add_request(name, {"prompt_token_ids": ids}, parameters, lora_request=lora)
            except self._refusals as refused:
                _resolve([(future, None, InputRefused(f"the vLLM engine refused a request: {refused}"))])
                continue
            waiting[name] = future
        return True


@contextmanager
def _all_stays() -> Iterator[None]:
    """A block whose many objects are all kept: looking for garbage among them is a fifth of an engine's start."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


def _lora(adapters: Sequence[Path]) -> dict[str, Any]:
    """What makes an engine take these adapters, all of them in one batch."""
    rank = max(map(rank_of, adapters))
    # vLLM has kernels for some ranks only, and fills up to the next.
    ranks = (8, 16, 32, 64, 128, 256, 320, 512)
    return {
        "enable_lora": True,
        "max_loras": len(adapters),
        "max_lora_rank": next((supported for supported in ranks if supported >= rank), rank),
    }


def alone_on_gpu(engine: Engine) -> AbstractContextManager[Any]:
    """A block during which no other engine starts on the same GPU: vLLM takes whatever memory goes while it starts for
    its own.
    """
    if not 0 < engine.gpus < 1:
        return nullcontext()
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return FileLock(Path(tempfile.gettempdir(), f"agentrm-{os.getuid()}-gpu-{gpu}.lock"))


def _resolve(answers: Iterable[_Answer]) -> None:
    """Settle futures, each in its event loop, which is woken once for all of its own."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[_Answer]] = defaultdict(list)
    for answer in answers:
        by_loop[answer[0].get_loop()].append(answer)
    for loop, own in by_loop.items():
        with suppress(RuntimeError):  # the callers' event loop is gone, so nobody waits for these answers
            loop.call_soon_threadsafe(_settle, own)


def _settle(answers: Iterable[_Answer]) -> None:
    for future, output, error in answers:
        if not future.done():
            future.set_exception(error) if error else future.set_result(output)


@dataclass(frozen=True, slots=True)
class Reading:
    """Raw values of one input, in its order; `tokens` were read, `cached` of which were not computed again. `labels`:
    those of every label at each place, where the model has several. `left_out`: tokens of the input that were not read,
    since it exceeds the context.
    """

    values: list[float]
    tokens: int
    cached: int
    labels: list[list[float]] = field(default_factory=list)
    left_out: int = 0


class ScoringEngine:
    """A reward model on vLLM's pooling runner: raw values of the scalar head, no sigmoid. A sequence's value is the one
    that transformers gives it, read before any padding tokens at its end; in models of AgentRM no state has those. Of a
    classifier of several labels it is that of number `label`.

    An adapter is applied to its base; several on one base may share a `loop` that has them all.
    """

    def __init__(
        self, directory: Path, engine: Engine, context: int, label: int = 0, loop: EngineLoop | None = None
    ) -> None:
        self._adapter = directory if kept(directory) else None
        self._loop = loop or scoring_loop([directory], engine, context)
        self._label = label
        from vllm import PoolingParams

        self._pad = self._loop.pad
        self._last = PoolingParams(task="classify", use_activation=False)
        # One pass without the prefix cache: cheaper than a request for each of many new prefixes.
        self._all = PoolingParams(task="token_classify", use_activation=False)

    async def score_ids(self, ids: Sequence[Sequence[int]], known: bool = False) -> list[float]:
        """One raw value per sequence of token ids."""
        return [
            CostedValue(reading.values[-1], reading.tokens, reading.cached)
            for reading in await self.read(ids, known=known)
        ]

    async def read(
        self,
        ids: Sequence[Sequence[int]],
        every_token: bool = False,
        known: bool = False,
        places: Sequence[Sequence[int]] | None = None,
    ) -> list[Reading]:
        """The value of each sequence of token ids, or those at each of its tokens, of which those at its `places` will
        do (None: all); `known` as in `EngineLoop.request`. Raises InputRefused.
        """
        if every_token and self._adapter is not None:
            wanted = places or [range(len(sequence)) for sequence in ids]
            parts = (self._read_apart(sequence, own, known) for sequence, own in zip(ids, wanted, strict=True))
            return list(await asyncio.gather(*parts))
        parameters = self._all if every_token else self._last
        read = ids if every_token else [sequence[: self.read_at(sequence) + 1] for sequence in ids]
        outputs = await asyncio.gather(
            *(self._loop.request(sequence, parameters, self._adapter, known) for sequence in read)
        )
        return [self._reading(output, len(own), every_token) for output, own in zip(outputs, ids, strict=True)]

    async def _read_apart(self, ids: Sequence[int], places: Sequence[int], known: bool) -> Reading:
        """Values at some tokens, a request for each, elsewhere NaN: vLLM's values of all tokens in one pass are by the
        base's own head.
        """
        ends = [self.read_at(ids[: place + 1]) for place in places]
        readings = await self.read([ids[: end + 1] for end in ends], known=known)
        values = [nan] * len(ids)
        for end, place, single in zip(ends, places, readings, strict=True):
            values[end] = values[place] = single.values[-1]
        computed = sum(reading.tokens - reading.cached for reading in readings)
        return Reading(values, len(ids), max(0, len(ids) - computed))

    def _reading(self, output: Any, tokens: int, every_token: bool) -> Reading:
        data = output.outputs.data
        rows = data.reshape(tokens if every_token else 1, -1).tolist()
        values = [row[self._label] for row in rows]
        return Reading(values, tokens, output.num_cached_tokens, rows if len(rows[0]) > 1 else [])

    def read_at(self, ids: Sequence[int]) -> int:
        """The index of the token at which the value of a sequence is read."""
        return read_at(ids, self._pad)

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows."""
        return self._loop.vocabulary

    @property
    def alive(self) -> bool:
        """Whether the engine still takes requests."""
        return self._loop.alive

    def close(self) -> None:
        """Stop the engine."""
        self._loop.close()


def scoring_loop(directories: Sequence[Path], engine: Engine, context: int) -> EngineLoop:
    """One engine for a reward model, or for several that are adapters on one base."""
    first, *_ = directories
    model = classifier(first) if kept(first) else first
    return EngineLoop(model, engine, context, "pooling", adapters=directories if kept(first) else ())


def scoring_engines(
    directories: Sequence[Path], engine: Engine, context: int, label: Callable[[Path], int]
) -> list[ScoringEngine]:
    """Reward models on engines of this process, which share the memory; adapters on one base have one together. `label`
    says which label of each is the reward. Raises ModelError for an adapter without its base.
    """
    if one_base(directories):
        loop = scoring_loop(directories, engine, context)
        return [ScoringEngine(directory, engine, context, label(directory), loop) for directory in directories]
    share = shared(engine, len(directories))
    return [ScoringEngine(directory, share, context, label(directory)) for directory in directories]


def shared(engine: Engine, models: int) -> Engine:
    """The settings of each of several engines on one replica's GPUs."""
    return replace(engine, gpu_memory_utilization=engine.gpu_memory_utilization / models)


def joined(readings: Sequence[Sequence[Reading]], penalty: float) -> list[Reading]:
    """The readings of the same inputs by each member of an ensemble as one: the lower confidence of their values, and
    as `cached` the tokens that no member computed again.
    """
    values = iter(lower_confidence([[v for reading in own for v in reading.values] for own in readings], penalty))
    return [
        replace(
            own[0],
            values=list(islice(values, len(own[0].values))),
            cached=min(reading.cached for reading in own),
            labels=[],
        )
        for own in zip(*readings, strict=True)
    ]


class EnsembleEngine:
    """Several engines that read the same token ids, by the lower confidence of their values."""

    def __init__(self, engines: Sequence[ScoringEngine], penalty: float) -> None:
        self._engines = list(engines)
        self._penalty = penalty

    async def score_ids(self, ids: Sequence[Sequence[int]], known: bool = False) -> list[float]:
        """See `ScoringEngine`. A value's cost is that of all members."""
        readings = await self._read(ids, every_token=False, known=known)
        values = lower_confidence([[reading.values[-1] for reading in own] for own in readings], self._penalty)
        return [
            CostedValue(value, sum(reading.tokens for reading in own), sum(reading.cached for reading in own))
            for value, own in zip(values, zip(*readings, strict=True), strict=True)
        ]

    async def read(
        self,
        ids: Sequence[Sequence[int]],
        every_token: bool = False,
        known: bool = False,
        places: Sequence[Sequence[int]] | None = None,
    ) -> list[Reading]:
        """See `ScoringEngine`."""
        return joined(await self._read(ids, every_token, known, places), self._penalty)

    async def _read(
        self,
        ids: Sequence[Sequence[int]],
        every_token: bool,
        known: bool,
        places: Sequence[Sequence[int]] | None = None,
    ) -> list[list[Reading]]:
        return list(await asyncio.gather(*(engine.read(ids, every_token, known, places) for engine in self._engines)))

    @property
    def vocabulary(self) -> int:
        """How many tokens all members know."""
        return min(engine.vocabulary for engine in self._engines)

    def read_at(self, ids: Sequence[int]) -> int:
        """See `ScoringEngine`."""
        return self._engines[0].read_at(ids)

    @property
    def alive(self) -> bool:
        """Whether all engines still take requests."""
        return all(engine.alive for engine in self._engines)

    def close(self) -> None:
        """Stop the engines."""
        for engine in self._engines:
            engine.close()
