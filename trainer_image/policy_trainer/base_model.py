"""What training starts from: another version's artifact, a model of the hub, or a small new one."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from policy_api.contract.artifact import Kind
from policy_api.contract.run import RunConfig
from policy_api.v1alpha1.inputs import Scratch
from policy_api.v1alpha1.store import Export
from policy_models.text import rendering

from policy_trainer import quantized, references
from policy_trainer.errors import ConfigInvalidError
from policy_trainer.exports import gguf_text
from policy_trainer.process import Process

PAD, BOS, EOS, USER, ASSISTANT = "<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'user' %}" + USER + "{{ m.content }}"
    "{% elif m.role == 'system' %}{{ m.content }}"
    "{% else %}" + ASSISTANT + "{{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}" + ASSISTANT + "{% endif %}"
)


def load(
    run: RunConfig,
    process: Process,
    texts: Sequence[str],
    *,
    scores: bool = False,
    to_train: bool = False,
) -> tuple[Any, Any]:
    """Load the model and its tokenizer; twice in a run gives the same weights twice.

    Args:
        run: Says which.
        process: Says on which device it will run, and so with which numbers.
        texts: What a tokenizer is learned from, when the model is new.
        scores: The model shall score whole texts with one number, not predict their next token. A
            base that does not yet gets a new head, from the run's seed.
        to_train: Under an adapter, with the frozen weights quantized as the manifest says.

    Raises:
        ConfigInvalidError: there is no such model, its shape does not work, or it cannot be
            exported as the manifest says.
        DataInvalidError: the artifact is not the one that was accepted.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # workers that fork would deadlock
    if run.base.scratch is not None:
        return new_model(run.base.scratch, run.seed, texts, scores=scores)
    if run.base.artifact is not None:
        name, field = references.checked(run.base.artifact), "base.training"
    else:
        name, field = str(run.base.model), "base.model"
    how = quantized.config(run, process) if to_train else None
    model, tokenizer = _pretrained(name, run, process, field, scores=scores, quantization=how)
    if Export.GGUF in run.store.exports:
        gguf_text.check(model.config.to_dict())  # now, not after days of training
    return model, tokenizer


def _pretrained(
    name: str,
    run: RunConfig,
    process: Process,
    field: str,
    *,
    scores: bool = False,
    quantization: Any = None,
) -> tuple[Any, Any]:
    import torch  # noqa: PLC0415 - seconds, after the data was checked
    from transformers import AutoTokenizer, GenerationConfig, set_seed  # noqa: PLC0415

    set_seed(run.seed)  # of a new head

    # All weights are trained in float32, under bfloat16 autocast on a GPU; frozen ones need no more
    # than bfloat16.
    small = process.on_gpu and run.adapter is not None
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        dtype = torch.bfloat16 if small else torch.float32
        how: dict[str, Any] = {"dtype": dtype, **_head(scores)}
        if quantization is not None:
            how |= {"quantization_config": quantization, "device_map": {"": process.device}}
        model = _class(scores).from_pretrained(name, **how)
    except (OSError, ValueError) as error:
        raise ConfigInvalidError(f"cannot load {name}: {error}", field=field) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not scores:
        # A fresh one: what others thought good for chatting (penalties, nuclei) is no part of the
        # policy that is trained, and what is evaluated and served must not differ by it.
        stops = rendering.stop_tokens(model, tokenizer)
        model.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=stops,
            pad_token_id=tokenizer.pad_token_id,
        )
    return model, tokenizer


def _class(scores: bool) -> Any:
    from transformers import (  # noqa: PLC0415 - see _pretrained
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
    )

    return AutoModelForSequenceClassification if scores else AutoModelForCausalLM


def _head(scores: bool) -> dict[str, int]:
    return {"num_labels": 1} if scores else {}


def load_reward_model(run: RunConfig, process: Process) -> tuple[Any, Any]:
    """Load the model that scores answers, `referenceModels.reward`, and its tokenizer.

    Raises:
        ConfigInvalidError: there is none, or it does not score.
        DataInvalidError: the artifact is not the one that was accepted.
    """
    field = "referenceModels.reward"
    artifact = run.reference("reward")
    if artifact is None:
        raise ConfigInvalidError("a term of the reward asks for a model: name one", field=field)
    folder = references.of_kind(artifact, Kind.REWARD_MODEL, field)
    return _pretrained(str(folder), run, process, field, scores=True)


def other_versions(
    run: RunConfig, process: Process, *, scores: bool = False
) -> Iterator[tuple[str, Any]]:
    """Yield `(version:<N>, model)` of each version that a criterion judges `against`."""
    for name, folder in references.others(run, Kind.REWARD_MODEL if scores else Kind.CAUSAL_LM):
        model, _ = _pretrained(str(folder), run, process, references.AGAINST, scores=scores)
        yield name, model


def new_model(
    scratch: Scratch, seed: int, texts: Sequence[str], *, scores: bool = False
) -> tuple[Any, Any]:
    """Return a Llama-like model with random weights and a byte-level BPE tokenizer of the texts."""
    from transformers import (  # noqa: PLC0415 - seconds
        LlamaConfig,
        LlamaForCausalLM,
        LlamaForSequenceClassification,
        set_seed,
    )

    if scratch.hidden_size % (2 * scratch.heads):
        raise ConfigInvalidError(
            f"hiddenSize {scratch.hidden_size} must be a multiple of twice heads {scratch.heads}",
            field="base.scratch.hiddenSize",
        )
    tokenizer = new_tokenizer(scratch, texts)
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=scratch.hidden_size,
        intermediate_size=3 * scratch.hidden_size,
        num_hidden_layers=scratch.layers,
        num_attention_heads=scratch.heads,
        num_key_value_heads=scratch.heads,
        max_position_embeddings=scratch.max_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **_head(scores),
    )
    # Not by from_config: under ZeRO-3 it would leave the weights with torch's defaults.
    new = LlamaForSequenceClassification if scores else LlamaForCausalLM
    return new(config), tokenizer


def new_tokenizer(scratch: Scratch, texts: Sequence[str]) -> Any:
    """Learn a byte-level BPE vocabulary: any text can be encoded, common words are one token."""
    from tokenizers import (  # noqa: PLC0415 - see new_model
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    learned.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=scratch.vocab_size,
            special_tokens=[PAD, BOS, EOS, USER, ASSISTANT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=learned,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=scratch.max_length,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def from_folder(folder: Path, *, scores: bool = False) -> Any:
    """Load all weights that a trainer saved."""
    import torch  # noqa: PLC0415 - see _pretrained

    return _class(scores).from_pretrained(str(folder), dtype=torch.float32, **_head(scores))
