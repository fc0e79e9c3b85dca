"""Whether an ONNX file says in onnxruntime what the model says."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from policy_models.layers import Numbers

from policy_trainer.errors import ConfigInvalidError
from policy_trainer.exports import FIELD

MOST = 1e-4  # of an output


def difference(
    file: Path,
    inputs: Mapping[str, Numbers],
    wanted: Numbers,
    part: Callable[[Numbers], Numbers] = lambda found: found,
) -> float:
    """Return the largest difference of an output.

    Args:
        file: The model in ONNX, with one output.
        inputs: By name.
        wanted: The model's own output.
        part: What of an output counts.

    Raises:
        ConfigInvalidError: the difference is above 1e-4.
    """
    import onnxruntime  # noqa: PLC0415 - only this export needs it

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, dict(inputs))
    off = float(np.abs(part(found) - part(wanted)).max())
    if not off <= MOST:
        raise ConfigInvalidError(
            f"{file.name} in onnxruntime differs by {off:.3g} in an output, at most {MOST:g} is "
            "rounding: leave ONNX out",
            field=FIELD,
        )
    return off
