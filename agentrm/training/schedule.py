"""When a fit changes its learning rate and when it saves."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear warm-up over the fraction `warmup` of `steps`, then a cosine to 0; `step` counts from 0."""
    rising = math.ceil(steps * warmup)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


def checkpoint_steps(steps: int, checkpoints: int) -> set[int]:
    """The numbers of finished steps after which a fit saves; its end is no checkpoint but the result."""
    return {round(steps * k / (checkpoints + 1)) for k in range(1, checkpoints + 1)} - {0, steps}
