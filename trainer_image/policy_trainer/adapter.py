"""Low-rank adapters: how one is declared to PEFT, and how it becomes ordinary weights again."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from policy_api.contract.run import RunConfig
from policy_api.v1alpha1.inputs import Quantization

from policy_trainer import base_model
from policy_trainer.errors import ConfigInvalidError


def config(run: RunConfig, model: Any, *, scores: bool = False) -> Any:
    """Return PEFT's config of the adapter to train; None trains all weights.

    Raises:
        ConfigInvalidError: the model has no module of a name that was given.
    """
    wanted = run.adapter
    if wanted is None:
        return None
    from peft import LoraConfig  # noqa: PLC0415 - seconds, only when it is used

    modules = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    for name in wanted.target_modules or []:
        if name not in modules:
            raise ConfigInvalidError(
                f"the model has no module {name!r}; it has {', '.join(sorted(modules - {''}))}",
                field="adapter.targetModules",
            )
    return LoraConfig(
        r=wanted.rank,
        lora_alpha=wanted.alpha,
        lora_dropout=wanted.dropout,
        target_modules=wanted.target_modules or "all-linear",
        task_type="SEQ_CLS" if scores else "CAUSAL_LM",  # the first keeps the new head as well
    )


def wrapped(run: RunConfig, model: Any) -> Any:
    """Return the model with its adapter to train, for a loop of our own; or the model.

    Raises:
        ConfigInvalidError: see config.
    """
    made = config(run, model)
    if made is None:
        return model
    from peft import get_peft_model, prepare_model_for_kbit_training  # noqa: PLC0415 - see config

    if run.adapter is not None and run.adapter.quantization is not Quantization.NONE:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return get_peft_model(model, made)


def disabled(run: RunConfig, model: Any) -> AbstractContextManager[Any]:
    """Return the context in which a wrapped model answers as it did at the start."""
    return model.disable_adapter() if run.adapter is not None else nullcontext()


def merged(run: RunConfig, model: Any, start: Callable[[], Any]) -> Any:
    """Return a wrapped model with ordinary weights; it is changed.

    Args:
        run: Says whether there is an adapter.
        model: What was trained.
        start: Loads what training started from, whose weights are not quantized.
    """
    if run.adapter is None:
        return model
    if run.adapter.quantization is Quantization.NONE:
        return model.merge_and_unload()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return trained_model(run, Path(folder), start())


def trained_model(run: RunConfig, weights: Path, base: Any, *, scores: bool = False) -> Any:
    """Return the trained model, with its adapter merged if it has one.

    Args:
        run: Says whether an adapter was trained.
        weights: What the trainer saved: all weights, or the adapter's.
        base: The model that training started from; it is changed when an adapter is merged.
        scores: It scores whole texts.
    """
    if run.adapter is None:
        return base_model.from_folder(weights, scores=scores)
    from peft import PeftModel  # noqa: PLC0415 - see config

    return PeftModel.from_pretrained(base, str(weights)).merge_and_unload()
