"""How prompts and answers become texts and tokens: the same in training, evaluation and serving.

As TRL does when it trains: with the tokenizer's chat template, which puts the special tokens in
itself; without one as they are, with the special tokens that the tokenizer adds (a beginning of
sequence in Llama, Gemma and OPT), and an end after the answer. An end that a tokenizer adds to
every text is no part of a prompt: nothing could follow it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Chat = list[dict[str, str]]  # messages of `role` and `content`
Prompt = str | Chat


def template(tokenizer: Any) -> str | None:
    """Return the manifest's prompt template: None says that the tokenizer's chat template is it."""
    return None if tokenizer.chat_template else "{prompt}"


def user(prompt: Prompt) -> Chat:
    """Return a prompt as a chat: of one message, if it is none yet."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def plain(prompt: Prompt) -> list[str]:
    """Return the texts of a prompt."""
    return [message["content"] for message in user(prompt)]


@dataclass(frozen=True)
class Asked:
    """A question as the model sees it."""

    text: str
    """After it the model answers."""
    chat: Chat | None
    """Of what the tokenizer's chat template made the text; None: it stands as it is."""


def ask(tokenizer: Any, prompt: Prompt, template: str | None = None) -> Asked:
    """Render a prompt.

    Args:
        tokenizer: A transformers tokenizer.
        prompt: A text or a chat; a chat needs a chat template.
        template: A text with `{prompt}`; a prompt that is a text is put into it. None: the chat
            template has it as a message, or it stands as it is where there is no chat template.

    Raises:
        jinja2.TemplateError: The chat template refuses the chat.
    """
    if isinstance(prompt, str) and (template is not None or not tokenizer.chat_template):
        return Asked((template or "{prompt}").replace("{prompt}", prompt), None)
    chat = user(prompt)
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return Asked(text, chat)


def tokens_before(tokenizer: Any, asked: Asked) -> list[int]:
    """Return the tokens after which the model answers."""
    return open_tokens(tokenizer, asked.text, templated=asked.chat is not None)


def tokens_with(tokenizer: Any, asked: Asked, completion: str) -> list[int]:
    """Return the tokens of a question and its answer, the end included.

    Raises:
        jinja2.TemplateError: The chat template refuses the chat.
    """
    if asked.chat is None:
        ended = completion.endswith(tokenizer.eos_token)
        text = f"{asked.text}{completion}{'' if ended else tokenizer.eos_token}"
    else:
        chat = [*asked.chat, {"role": "assistant", "content": completion}]
        text = tokenizer.apply_chat_template(chat, tokenize=False)
    found: list[int] = tokenizer(text, add_special_tokens=asked.chat is None)["input_ids"]
    return found


def asked_tokens(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Return the tokens after which the model answers a prompt of a row."""
    return tokens_before(tokenizer, ask(tokenizer, prompt))


def answered_tokens(tokenizer: Any, prompt: Prompt, completion: str) -> list[int]:
    """Return the tokens of a row's prompt and its answer, the end included."""
    return tokens_with(tokenizer, ask(tokenizer, prompt), completion)


def in_common(tokens: Sequence[int], others: Sequence[int]) -> int:
    """Return how many tokens two rows begin with in common."""
    pairs = enumerate(zip(tokens, others, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(tokens), len(others)))


def open_tokens(tokenizer: Any, text: str, *, templated: bool) -> list[int]:
    """Return the tokens of a text that goes on.

    Args:
        tokenizer: A transformers tokenizer.
        text: What is to be gone on with.
        templated: A chat template has made it, special tokens and all.
    """
    found: list[int] = tokenizer(text, add_special_tokens=not templated)["input_ids"]
    if not templated and found and found[-1] == tokenizer.eos_token_id and _ends_all(tokenizer):
        return found[:-1]
    return found


def _ends_all(tokenizer: Any) -> bool:
    """Whether the tokenizer adds an end to every text."""
    nothing: list[int] = tokenizer("")["input_ids"]
    return bool(nothing) and nothing[-1] == tokenizer.eos_token_id


def padded(tokenizer: Any, rows: Sequence[Sequence[int]], side: str) -> Any:
    """Return rows of tokens as torch tensors (rows, longest): `input_ids`, `attention_mask`."""
    return tokenizer.pad(
        {"input_ids": [list(row) for row in rows]}, padding_side=side, return_tensors="pt"
    )


def stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return every token that the model or its tokenizer declares as an end: each ends an answer.

    Chat models often declare two: that of a text, and that of a turn.
    """
    declared = model.generation_config.eos_token_id
    ends = [*(declared if isinstance(declared, list) else [declared]), tokenizer.eos_token_id]
    return sorted({token for token in ends if token is not None})
