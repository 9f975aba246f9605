"""DeepSpeed, imported without what it drags along."""

from __future__ import annotations

import sys

# It imports an autotuner that nobody uses here, and that mlflow where it is installed, which takes longer than all the
# rest. A module that is None is taken for one that is not there; who logs to mlflow imports it afterwards.
_alone = not {"deepspeed", "mlflow"} & sys.modules.keys()
if _alone:
    sys.modules["mlflow"] = None  # type: ignore[assignment]
try:
    import deepspeed
    from deepspeed import DeepSpeedEngine
finally:
    if _alone:
        del sys.modules["mlflow"]

__all__ = ["DeepSpeedEngine", "deepspeed"]
