"""Answers that join and leave a batch while others are written are those of the model alone."""

import pytest
import torch
from policy_models.text import caches
from policy_models.text.decoding import Decoder
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    set_seed,
)

pytestmark = pytest.mark.trainer

VOCABULARY = 96
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # logits that differ enough for one token to be the best by far
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
SMALL = {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
WINDOW = {"sliding_window": 8}
LAYERS = {"layer_types": ["sliding_attention", "full_attention"]}
MODELS = {
    "opt": (OPTForCausalLM, OPTConfig, {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "gpt2": (GPT2LMHeadModel, GPT2Config, {}),
    "llama": (LlamaForCausalLM, LlamaConfig, SMALL),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, SMALL),
    "gemma": (Gemma3ForCausalLM, Gemma3TextConfig, {**SMALL, **WINDOW, **LAYERS}),
    "mistral": (MistralForCausalLM, MistralConfig, {**SMALL, **WINDOW}),
}


@pytest.fixture(scope="module", params=sorted(MODELS))
def model(request):
    set_seed(5)
    model_class, config_class, more = MODELS[request.param]
    return model_class(config_class(**SHAPE, **more)).eval()


def prompts():
    chance = torch.Generator().manual_seed(3)
    lengths = (3, 17, 1, 9, 24, 5)
    return [torch.randint(1, VOCABULARY, (n,), generator=chance).tolist() for n in lengths]


LIMITS = (40, 3, 25, 12, 1, 30)


def decoder(model, draft_tokens=0):
    return Decoder(model, stop=frozenset(), temperature=0, draft_tokens=draft_tokens)


def alone(model):
    """What transformers itself generates, one prompt at a time."""
    found = []
    for prompt, limit in zip(prompts(), LIMITS, strict=True):
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            whole = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False
            )
        found.append(whole[0, len(prompt) :].tolist())
    return found


def written(built, starts):
    """Start answer `n` before step `starts[n]`, and write until all are whole."""
    rows = {}
    for step in range(200):
        now = [n for n, start in enumerate(starts) if start == step]
        if now:
            made = built.start([prompts()[n] for n in now], [LIMITS[n] for n in now])
            rows |= dict(zip(now, made, strict=True))
        if len(rows) == len(starts) and all(row.done for row in rows.values()):
            return [rows[n].tokens for n in range(len(starts))]
        built.step()
    raise AssertionError("not all are whole")


@pytest.mark.parametrize("draft_tokens", [0, 6])
@pytest.mark.parametrize(
    "starts",
    [
        (0, 0, 0, 0, 0, 0),
        (0, 1, 2, 3, 4, 5),
        (20, 10, 0, 12, 0, 11),  # short prompts are joined by longer ones, and the reverse
        (0, 50, 60, 100, 110, 120),
    ],
)
def test_answers_are_the_same_whenever_they_join(model, starts, draft_tokens):
    wanted = alone(model)
    built = decoder(model, draft_tokens)
    assert written(built, starts) == wanted
    assert written(built, starts) == wanted  # with guesses from the first time


def test_an_answer_that_is_left_disturbs_none(model):
    built = decoder(model)
    gone, stays = built.start(prompts()[:3:2], [LIMITS[0], LIMITS[2]])
    built.step()
    built.leave([gone])
    (late,) = built.start([prompts()[3]], [LIMITS[3]])
    while not (stays.done and late.done):
        built.step()
    assert len(gone.tokens) == 2
    wanted = alone(model)
    assert [stays.tokens, late.tokens] == [wanted[2], wanted[3]]
    passes = built.forward_passes
    built.step()
    assert built.forward_passes == passes


def test_what_nobody_needs_is_given_back(model):
    """However many answers come and go, the cache is about as long as the longest of them."""
    built = decoder(model, 6)
    built.start([prompts()[0]], [1000])
    widest = 0
    for _ in range(40):
        built.start([prompts()[1]], [5])
        while len(built._rows) > 1:
            built.step()
        widest = max(widest, built._mask.shape[1])
        longest = int(built._mask.sum(1).max())
        assert built._mask.shape[1] <= max(longest + caches.SLACK, longest * 3 // 2)
    assert widest < 256


def test_an_answer_that_can_not_start_leaves_the_others_as_they_are(model):
    built = decoder(model)
    (row,) = built.start([prompts()[0]], [LIMITS[0]])
    built.step()
    with pytest.raises(IndexError):
        built.start([[VOCABULARY + 7]], [5])
    while not row.done:
        built.step()
    assert row.tokens == alone(model)[0]
