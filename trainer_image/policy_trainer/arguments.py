"""The config of a TRL trainer, from what the manifest says; checked before anything is trained."""

import typing
from typing import Any

from policy_api.contract.run import RunConfig
from policy_api.rules.nearest import hint
from policy_api.v1alpha1.recipes.blocks import block_of
from policy_api.v1alpha1.recipes.common import TextCommon
from pydantic import ConfigDict, TypeAdapter, ValidationError

from policy_trainer import state
from policy_trainer.checkpoint import Checkpoints
from policy_trainer.errors import ConfigInvalidError
from policy_trainer.fit import NEVER
from policy_trainer.process import Process

# TRL's names of what the manifest says elsewhere, and where.
ELSEWHERE = {
    "output_dir": "artifact.uri",
    "seed": "seed",
    "num_train_epochs": "epochs",
    "max_steps": "maxSteps",
    "learning_rate": "learningRate",
    "per_device_train_batch_size": "batchSize",
    "gradient_accumulation_steps": "gradientAccumulationSteps",
    "max_length": "maxLength",
    "packing": "packing",
    "num_generations": "numGenerations",
    "max_completion_length": "maxCompletionLength",
    "temperature": "temperature",
    "beta": "beta",
    "deepspeed": "compute.deepspeed",
    "use_cpu": "compute.gpusPerNode",
    "ddp_backend": "compute.gpusPerNode",
    "save_strategy": "checkpoints.everySteps",
    "save_steps": "checkpoints.everySteps",
    "save_total_limit": "checkpoints.keep",
    "enable_jit_checkpoint": "checkpoints",
    "resume_from_checkpoint": "checkpoints",
    "eval_strategy": "data[validation]",
    "do_eval": "data[validation]",
    "report_to": "status.metrics",
}


def build(
    config_class: type[Any],
    block: TextCommon,
    run: RunConfig,
    process: Process,
    checkpoints: Checkpoints,
    **special: object,
) -> Any:
    """Build the config of a TRL trainer.

    Args:
        config_class: trl.SFTConfig or trl.GRPOConfig.
        block: The manifest's block of this recipe, with the user's `args`.
        run: The rest of what the manifest says.
        process: Decides the device.
        checkpoints: Where transformers writes to.
        special: What only this recipe has.

    Raises:
        ConfigInvalidError: names the argument at fault.
    """
    name = block_of(run.recipe)
    defaults: dict[str, object] = {
        "logging_steps": 5,
        "disable_tqdm": True,  # a pod's log is no terminal
        "activation_checkpointing": process.on_gpu,  # saves GPU memory, costs a third of the time
        "bf16": process.on_gpu,
    }
    fixed: dict[str, object] = {
        "output_dir": str(checkpoints.local),
        "seed": run.seed,
        "num_train_epochs": block.epochs,
        "max_steps": block.max_steps or -1,
        "learning_rate": block.learning_rate,
        "per_device_train_batch_size": block.batch_size,
        "gradient_accumulation_steps": block.gradient_accumulation_steps,
        "use_cpu": not process.on_gpu,
        "save_strategy": "steps",
        "save_steps": NEVER,  # Saver says when; "steps" makes transformers save at the end as well
        "eval_strategy": "no",  # evaluate.py does it
        "report_to": "none",  # transformers adds its KEP-2779 callback by itself
    }
    if process.world_size > 1 and run.compute.deepspeed is None:
        fixed["ddp_backend"] = "nccl" if process.on_gpu else "gloo"
    if run.compute.deepspeed is not None:
        fixed["deepspeed"] = deepspeed_config(run.compute.deepspeed.stage)
    given = check_args(config_class, getattr(block, "args", {}), name)
    state.folder().mkdir(parents=True, exist_ok=True)
    try:
        return config_class(**{**defaults, **given, **fixed, **special})
    except (TypeError, ValueError) as error:
        raise ConfigInvalidError(str(error), field=name) from error


def check_args(config_class: type[Any], args: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the user's `args` if each is a field of the TRL config and has its type.

    Raises:
        ConfigInvalidError: names the argument and says what was wanted.
    """
    types = typing.get_type_hints(config_class)
    for key, value in args.items():
        field = f"{name}.args.{key}"
        if key in ELSEWHERE:
            raise ConfigInvalidError(f"set {ELSEWHERE[key]} instead of args.{key}", field)
        if key not in types:
            message = f"{config_class.__name__} has no field {key!r}{hint(key, types)}"
            raise ConfigInvalidError(message, field)
        try:
            TypeAdapter(types[key], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ConfigInvalidError(f"args.{key} is {value!r}: {reason}", field) from error
    return args


def deepspeed_config(stage: int) -> dict[str, Any]:
    """Return DeepSpeed's config for a ZeRO stage; `auto` is filled in from the trainer's config."""
    return {
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": False,
            "contiguous_gradients": True,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "bf16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "train_batch_size": "auto",
        # torch's AdamW, which DeepSpeed did not write but works; its own CPU Adam needs a compiler
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
