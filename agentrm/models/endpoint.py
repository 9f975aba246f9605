"""An OpenAI-compatible chat endpoint, such as vLLM's server: one client for the judge and the remote policy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from agentrm.errors import ContextOverflow, InputRefused, ModelError
from agentrm.models.state import Message


class ChatEndpoint:
    """Asks `model` at `url` (".../v1"), `concurrency` requests at a time, each try at most `timeout_s` long.

    Failed requests are tried again `retries` times with growing waits; then, or without a key that the endpoint takes,
    raises ModelError. Raises ContextOverflow for messages that the model's context does not hold, and InputRefused for
    what the endpoint refuses otherwise.
    """

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str,
        *,
        concurrency: int = 16,
        retries: int = 2,
        timeout_s: float = 600.0,
    ) -> None:
        from openai import AsyncOpenAI

        self._client = AsyncOpenAI(base_url=url, api_key=api_key, max_retries=retries, timeout=timeout_s)
        self._lanes = asyncio.Semaphore(concurrency)
        self.model = model

    async def chat(self, messages: Sequence[Message], **options: Any) -> Any:
        """The endpoint's `ChatCompletion`; `options` are the API's."""
        from openai import BadRequestError, OpenAIError

        sent: Any = list(messages)
        try:
            async with self._lanes:
                return await self._client.chat.completions.create(model=self.model, messages=sent, **options)
        except BadRequestError as error:
            if "context" in str(error).lower():
                raise ContextOverflow(f"the context of {self.model} is too short: {error}") from error
            raise InputRefused(f"{self.model} refused a request: {error}") from error
        except OpenAIError as error:
            raise ModelError(f"{self.model} did not answer: {error}") from error
