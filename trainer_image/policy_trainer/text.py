"""Prompts as the model sees them: with its chat template, or as they are when it has none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from policy_trainer.data import Row
from policy_trainer.errors import ConfigInvalidError, DataInvalidError
from policy_trainer.result import Writer

Chat = list[dict[str, str]]  # messages of `role` and `content`
Prompt = str | Chat


def template(tokenizer: Any) -> str | None:
    """Return the manifest's prompt template: None says that the tokenizer's chat template is it."""
    return None if tokenizer.chat_template else "{prompt}"


def writer(model: Any, tokenizer: Any) -> Writer:
    """Return what writes a transformers model (as safetensors) and its tokenizer."""

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return write


def check_room(
    tokenizer: Any, prompts: Sequence[str], longest: int, answer: int, block: str
) -> None:
    """Refuse prompts that leave no room for an answer.

    Args:
        tokenizer: Counts.
        prompts: Those of the training.
        longest: Prompt and answer, in tokens.
        answer: Longest answer, in tokens.
        block: The recipe's, for messages.

    Raises:
        ConfigInvalidError: there is room for none.
        DataInvalidError: one is too long; names its row.
    """
    room = longest - answer
    if room <= 0:
        raise ConfigInvalidError(
            f"maxLength {longest} leaves no room for a prompt beside maxCompletionLength {answer}",
            field=f"{block}.maxLength",
        )
    for number, prompt in enumerate(prompts, start=1):
        length = len(tokenizer(asked(tokenizer, prompt))["input_ids"])
        if length > room:
            raise DataInvalidError(
                f"the prompt has {length} tokens, {room} fit beside maxCompletionLength",
                field=f"data[train] row {number} field prompt",
            )


def user(prompt: Prompt) -> Chat:
    """Return a prompt as a chat: of one message, if it is none yet."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def plain(prompt: Prompt) -> list[str]:
    """Return the texts of a prompt."""
    return [message["content"] for message in user(prompt)]


def check_chats(tokenizer: Any, rows: Sequence[Row]) -> None:
    """Refuse chats for a model that knows none.

    Raises:
        DataInvalidError: names the first.
    """
    for number, row in enumerate(rows, start=1):
        if not isinstance(row["prompt"], str) and not tokenizer.chat_template:
            raise DataInvalidError(
                "the row is a chat, and the model's tokenizer has no chat template: give rows of "
                "prompt and completion, or a base that was trained on chats",
                field=f"data[train] row {number} field messages",
            )


def example(tokenizer: Any, row: Row) -> dict[str, Any]:
    """Return a row in the form that TRL wants for this tokenizer."""
    if not tokenizer.chat_template:
        return dict(row)
    made: dict[str, Any] = {"prompt": user(row["prompt"])}
    for column in ("completion", "chosen", "rejected"):
        if column in row:
            made[column] = [{"role": "assistant", "content": row[column]}]
    return made


def asked(tokenizer: Any, prompt: Prompt) -> str:
    """Return the text after which the model answers: what training, evaluation and server share."""
    if not tokenizer.chat_template:
        return str(prompt)
    text: str = tokenizer.apply_chat_template(
        user(prompt), tokenize=False, add_generation_prompt=True
    )
    return text


def answered(tokenizer: Any, row: Row) -> str:
    """Return the text of a prompt and its answer; it starts with `asked`."""
    if not tokenizer.chat_template:
        return str(row["prompt"] + row["completion"] + tokenizer.eos_token)
    chat = [*user(row["prompt"]), {"role": "assistant", "content": row["completion"]}]
    text: str = tokenizer.apply_chat_template(chat, tokenize=False)
    return text
