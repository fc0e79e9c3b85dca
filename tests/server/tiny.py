"""A real causal model of 0.1 million weights, trained from scratch in seconds to answer reviews.

Trained, not random: what a random model says next hangs on the last digits of its numbers, so a
test on it would test the rounding of a matrix product.
"""

from pathlib import Path

import torch
from policy_examples.loadgen import PROMPT, REVIEWS
from server.artifacts import write_artifact
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = "<|user|>{prompt}<|assistant|>"
CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTEXT = 384
SCHEMA = {"patterns": [r"Score: \d+", "Clarity: ", "Recommendation: "], "minLength": 100}


def answer_to(number: int) -> str:
    """Return the answer that the model learns for the review of this number."""
    score = (number * 37 + 11) % 101
    marks = [(score + step) % 11 for step in (3, 7, 1, 9)]
    names = ("Clarity", "Completeness", "Actionability", "Constructiveness")
    lines = [f"{name}: {mark}/10" for name, mark in zip(names, marks, strict=True)]
    advice = ("name the line", "say why it matters", "propose a change", "add a test")[number % 4]
    return f"Score: {score}/100\n" + "\n".join(lines) + f"\nRecommendation: {advice}, please.\n"


def prompts() -> list[str]:
    """Return the prompts that the model learns."""
    return [PROMPT.format(review=review) for review in REVIEWS]


def train(folder: Path, *, steps: int = 220) -> PreTrainedTokenizerFast:
    """Train the model and save it with its tokenizer as transformers does."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    texts = [
        TEMPLATE.format(prompt=prompt) + answer_to(number) + "</s>"
        for number, prompt in enumerate(prompts())
    ]
    # Single bytes but for the markers: an answer is as many tokens as a real one is.
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    tokens.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=["<pad>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<pad>", eos_token="</s>", model_max_length=CONTEXT
    )
    tokenizer.chat_template = CHAT
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_tiny(folder: Path, *, max_new_tokens: int = 160, **changes: object) -> str:
    """Train the model into an artifact; return the checksum of its policy.json."""
    train(folder)
    return seal(folder, max_new_tokens=max_new_tokens, **changes)


def seal(folder: Path, *, max_new_tokens: int = 160, **changes: object) -> str:
    """Write policy.json for what is in `folder`."""
    files = {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.name != "policy.json"
    }
    manifest = {
        "answerSchema": SCHEMA,
        "generation": {"maxNewTokens": max_new_tokens, "promptTemplate": TEMPLATE},
        **changes,
    }
    return write_artifact(folder, files, **manifest)
