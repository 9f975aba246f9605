"""Plain transformers as a generator: what the benchmark compares the engine with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from agentrm.config.schema import Sampling
from agentrm.models.policy import Completion


class TransformersGenerator:
    """`generate` of transformers: one prompt at a time, read anew for every call; on `device` of torch."""

    def __init__(
        self, directory: str | Path, sampling: Sampling, context: int, stop_ids: Sequence[int], device: str
    ) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(str(directory), dtype="auto").to(device).eval()
        self._sampling = sampling
        self._stop_ids = list(stop_ids)
        self._context = context

    async def generate(self, ids: Sequence[int], n: int, greedy: bool, seed: int) -> list[Completion]:
        """See `agentrm.models.policy.Generator`."""
        return await asyncio.to_thread(self._generate, ids, n, greedy or self._sampling.temperature == 0, seed)

    @torch.inference_mode()
    def _generate(self, ids: Sequence[int], n: int, greedy: bool, seed: int) -> list[Completion]:
        torch.manual_seed(seed)
        prompt = torch.tensor([list(ids)], device=self._model.device)
        drawing = {"temperature": self._sampling.temperature, "top_p": self._sampling.top_p, "top_k": 0}
        output = self._model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=min(self._sampling.max_tokens, self._context - len(ids)),
            eos_token_id=self._stop_ids,
            pad_token_id=self._stop_ids[0],
            num_return_sequences=1 if greedy else n,
            do_sample=not greedy,
            return_dict_in_generate=True,
            output_logits=True,
            **({} if greedy else drawing),
        )
        sampled = output.sequences[:, len(ids) :]
        logprobs = torch.stack(output.logits, dim=1).float().log_softmax(-1).gather(-1, sampled[..., None])[..., 0]
        completions = [self._completion(*row) for row in zip(sampled.tolist(), logprobs.tolist(), strict=True)]
        return completions * n if greedy else completions

    def _completion(self, sampled: list[int], logprobs: list[float]) -> Completion:
        """A row, which is padded with the stop token after its first one."""
        end = next((i for i, token in enumerate(sampled) if token in self._stop_ids), len(sampled))
        tokens = min(end + 1, len(sampled))
        return Completion(sampled[:end], tokens, sum(logprobs[:tokens]))
