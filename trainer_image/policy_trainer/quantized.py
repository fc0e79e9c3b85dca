"""How frozen weights are kept while an adapter is trained: in 8 bits, or as 4-bit NormalFloat."""

from importlib.util import find_spec
from typing import Any

from policy_api.contract.run import RunConfig
from policy_api.v1alpha1.inputs import Quantization

from policy_trainer.errors import ConfigInvalidError
from policy_trainer.process import Process


def config(run: RunConfig, process: Process) -> Any:
    """Return transformers' config of how the frozen weights are kept; None: as they are.

    Raises:
        ConfigInvalidError: the library for it is not in this image.
    """
    how = run.adapter.quantization if run.adapter is not None else Quantization.NONE
    if how is Quantization.NONE:
        return None
    if find_spec("bitsandbytes") is None:
        raise ConfigInvalidError(
            f"{how} needs the package bitsandbytes, which this trainer image lacks: use the image "
            "for GPUs, or leave quantization out",
            field="adapter.quantization",
        )
    import torch  # noqa: PLC0415 - seconds
    from transformers import BitsAndBytesConfig  # noqa: PLC0415

    if how is Quantization.INT8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if process.on_gpu else torch.float32,
    )
