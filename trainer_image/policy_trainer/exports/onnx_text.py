"""A text model as ONNX: one forward pass over whole texts, with any batch and length."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from policy_api.contract.artifact import Kind

from policy_trainer import base_model
from policy_trainer.exports import onnx_check

INPUTS = ("input_ids", "attention_mask")
ROWS, LENGTH = 3, 17  # of the check; the export itself is traced with another shape


def write(folder: Path, file: Path, kind: Kind) -> float:
    """Write a model; return the largest difference of an output in onnxruntime.

    Inputs `input_ids` and `attention_mask`, int64 (batch, sequence), texts padded on the right.
    Output `logits` (batch, sequence, vocabulary) of a causal language model, or `score` (batch, 1)
    of a reward model. Weights of more than 2 GiB are in a file beside it.

    Raises:
        ConfigInvalidError: onnxruntime's outputs are others.
    """
    import torch  # noqa: PLC0415 - seconds

    class Whole(torch.nn.Module):  # type: ignore[misc]  # torch is not looked into
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.inner(
                input_ids=input_ids, attention_mask=attention_mask, use_cache=False
            ).logits

    scores = kind is Kind.REWARD_MODEL
    output = "score" if scores else "logits"
    model = Whole(base_model.from_folder(folder, scores=scores)).eval()
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    traced = _asked(vocabulary, 2, 9)
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with contextlib.redirect_stderr(io.StringIO()):  # of what torchvision would export
        program = torch.onnx.export(
            model,
            tuple(map(torch.from_numpy, traced)),
            dynamo=True,
            verbose=False,
            input_names=INPUTS,
            output_names=[output],
            dynamic_shapes=dict.fromkeys(INPUTS, axes),
        )
    program.save(file)
    asked = _asked(vocabulary, ROWS, LENGTH)
    with torch.inference_mode():
        wanted = model(*map(torch.from_numpy, asked)).numpy()
    read = asked[1].astype(bool)
    return onnx_check.difference(
        file,
        dict(zip(INPUTS, asked, strict=True)),
        wanted,
        lambda found: found if scores else found[read],
    )


def _asked(vocabulary: int, rows: int, length: int) -> tuple[Any, Any]:
    """Return tokens and their mask; the first row is a shorter text."""
    tokens = np.random.default_rng(0).integers(vocabulary, size=(rows, length))
    mask = np.ones((rows, length), dtype=np.int64)
    mask[0, length // 2 :] = 0
    return tokens, mask
