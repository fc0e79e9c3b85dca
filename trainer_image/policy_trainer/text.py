"""Rows of texts in the forms that TRL wants, and whether there is room for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from policy_models.text import rendering

from policy_trainer.data import Row
from policy_trainer.errors import ConfigInvalidError, DataInvalidError
from policy_trainer.result import Writer


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
        length = len(rendering.asked_tokens(tokenizer, prompt))
        if length > room:
            raise DataInvalidError(
                f"the prompt has {length} tokens, {room} fit beside maxCompletionLength",
                field=f"data[train] row {number} field prompt",
            )


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
    made: dict[str, Any] = {"prompt": rendering.user(row["prompt"])}
    for column in ("completion", "chosen", "rejected"):
        if column in row:
            made[column] = [{"role": "assistant", "content": row[column]}]
    return made
