"""A causal language model as GGUF, for llama.cpp and what is built on it.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; the names of tensors are the gguf
package's, the vocabulary is gguf_vocabulary.py's.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from policy_api.v1alpha1.store import GGUFType
from policy_models.layers import Numbers

from policy_trainer.errors import ConfigInvalidError
from policy_trainer.exports import FIELD, gguf_vocabulary

# transformers' model_type -> the architecture's name in GGUF.
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
BLOCK = 32  # numbers that Q8_0 keeps with one scale
PROBE = 64  # tokens that the check asks with
# Largest difference of a logit, in standard deviations of the logits, that is only rounding.
MOST = {GGUFType.F32: 0.001, GGUFType.F16: 0.05, GGUFType.Q8_0: 0.5}


def check(config: Mapping[str, Any]) -> None:
    """Refuse an architecture that GGUF files of this exporter do not know.

    Args:
        config: The model's config.json.

    Raises:
        ConfigInvalidError: says which are known.
    """
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise ConfigInvalidError(
            f"a model of type {kind!r} cannot be written as GGUF, only "
            f"{', '.join(sorted(ARCHITECTURES))}: leave GGUF out",
            field=FIELD,
        )
    rope = _rope(config).get("rope_type", "default")
    if rope != "default":
        raise ConfigInvalidError(
            f"a model with rope scaling {rope!r} cannot be written as GGUF: leave GGUF out",
            field=FIELD,
        )
    if kind == "mistral" and config.get("sliding_window") is not None:
        raise ConfigInvalidError(
            "a model with sliding-window attention cannot be written as GGUF: leave GGUF out",
            field=FIELD,
        )


def write(folder: Path, file: Path, type_: GGUFType, wanted: Any) -> float:
    """Write a model and its tokenizer; return the largest difference of a logit.

    Args:
        folder: What transformers saved: config.json, safetensors, tokenizer.json.
        file: Where to.
        type_: How weights are kept. Vectors stay F32, and what Q8_0 cannot divide into blocks.
        wanted: The model's own `logits`.

    Raises:
        ConfigInvalidError: the architecture or tokenizer is not known, or the file read back
            answers otherwise.
    """
    import gguf  # noqa: PLC0415 - only this export needs it

    config = json.loads((folder / "config.json").read_text())
    check(config)
    name = ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(file, name, use_temp_file=True)
    writer.add_file_type(
        {
            GGUFType.F32: gguf.LlamaFileType.ALL_F32,
            GGUFType.F16: gguf.LlamaFileType.MOSTLY_F16,
            GGUFType.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
        }[type_]
    )
    writer.add_name(file.stem)
    _add_shape(writer, config)
    gguf_vocabulary.add(writer, folder, config["vocab_size"])
    architecture = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == name)
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    for tensor, values in _tensors(folder):
        kept = gguf.GGMLQuantizationType[_kept_as(values, type_)]
        known = names.get_name(tensor, try_suffixes=(".weight", ".bias"))
        arranged = np.ascontiguousarray(_arranged(tensor, values, config, name))
        writer.add_tensor(known, gguf.quants.quantize(arranged, kept), raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return _difference(folder, file, type_, wanted)


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = config.get("rope_parameters") or {}
    return found


def _head_width(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _add_shape(writer: Any, config: Mapping[str, Any]) -> None:
    width = _head_width(config)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(_rope(config).get("rope_theta", 10000.0))
    writer.add_vocab_size(config["vocab_size"])


def _tensors(folder: Path) -> Iterator[tuple[str, Numbers]]:
    """Yield names and float32 values of the weights, one at a time."""
    from safetensors import safe_open  # noqa: PLC0415 - with torch's imports

    for part in sorted(folder.glob("*.safetensors")):
        with safe_open(part, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no dict
                yield name, tensors.get_tensor(name).float().numpy()


def _kept_as(values: Numbers, type_: GGUFType) -> str:
    uneven = type_ is GGUFType.Q8_0 and values.shape[-1] % BLOCK
    return "F32" if values.ndim == 1 or uneven else type_.value


def _arranged(tensor: str, values: Numbers, config: Mapping[str, Any], name: str) -> Numbers:
    """Return queries and keys in the order of llama.cpp's rotation, for architecture llama.

    transformers rotates a head's first half with its second, llama.cpp neighbours.
    """
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    module = tensor.rsplit(".", 2)[-2]
    if name != "llama" or module not in heads:
        return values
    count, width = config[heads[module]], _head_width(config)
    split = values.reshape(count, 2, width // 2, *values.shape[1:])
    return split.swapaxes(1, 2).reshape(values.shape)


def logits(folder: Path, **how: Any) -> Any:
    """Return the logits of a model after each of some tokens: (1, tokens, vocabulary).

    Args:
        folder: With the model's files.
        how: More for transformers' from_pretrained.
    """
    import torch  # noqa: PLC0415 - seconds
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, **how).eval()
    asked = np.random.default_rng(0).integers(model.config.vocab_size, size=(1, PROBE))
    with torch.inference_mode():
        return model(torch.from_numpy(asked)).logits


def _difference(folder: Path, file: Path, type_: GGUFType, wanted: Any) -> float:
    """Return the largest difference of a logit to the file's, as transformers reads it."""
    from transformers import AutoConfig  # noqa: PLC0415 - seconds

    shape = AutoConfig.from_pretrained(str(folder))
    # transformers does not read from a GGUF file how wide the heads of Qwen3 are.
    how = {"config": shape} if shape.model_type == "qwen3" else {}
    found = logits(file.parent, gguf_file=file.name, **how)
    off = float((found - wanted).abs().max())
    spread = float(wanted.std())
    if not off <= MOST[type_] * spread:
        raise ConfigInvalidError(
            f"{file.name} read back differs by {off:.3g} in a logit, where logits spread by "
            f"{spread:.3g}: leave GGUF out",
            field=FIELD,
        )
    return off
