"""A tokenizer as GGUF keeps it: tokens, their types, merges or scores, and the chat template."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from policy_trainer.errors import ConfigInvalidError
from policy_trainer.exports import FIELD

BYTE = re.compile(r"^<0x[0-9A-F]{2}>$")
_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# How a text is split before merges, as tokenizer.json says it -> as llama.cpp names it.
SPLITS = {
    _LETTERS + r"\p{N}" + _REST: "qwen2",
    _LETTERS + r"\p{N}{1,3}" + _REST: "llama-bpe",
}
PLAIN = "gpt-2"  # tokenizers' ByteLevel with its own regular expression


def add(writer: Any, folder: Path, size: int) -> None:
    """Add the tokenizer of a folder.

    Args:
        writer: gguf.GGUFWriter.
        folder: With tokenizer.json and what transformers saved beside it.
        size: Of the model's vocabulary; tokens that the tokenizer lacks are filled up.

    Raises:
        ConfigInvalidError: llama.cpp would split texts otherwise than this tokenizer.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds

    known = json.loads((folder / "tokenizer.json").read_text())
    model = known["model"]
    pieces = _is_pieces(model)
    writer.add_tokenizer_model("llama" if pieces else "gpt2")
    writer.add_tokenizer_pre("default" if pieces else _split(known.get("pre_tokenizer")))
    tokens, types = zip(*_tokens(known, size), strict=True)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    if pieces:
        writer.add_token_scores(_scores(merges, tokens))
    else:
        writer.add_token_merges(merges)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    for role in ("bos", "eos", "unk", "pad"):
        number = getattr(tokenizer, f"{role}_token_id")
        if number is not None:
            getattr(writer, f"add_{role}_token_id")(number)
    begins = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    writer.add_add_bos_token(bool(begins))
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _is_pieces(model: Mapping[str, Any]) -> bool:
    """Say whether a tokenizer is SentencePiece's BPE, which falls back to bytes.

    Raises:
        ConfigInvalidError: it is no BPE at all.
    """
    if model["type"] != "BPE":
        raise _unknown(f"a {model['type']} tokenizer")
    return bool(model.get("byte_fallback"))


def _split(how: Mapping[str, Any] | None) -> str:
    steps = [] if how is None else how.get("pretokenizers", [how])
    names = [step["type"] for step in steps]
    if names == ["ByteLevel"] and steps[0].get("use_regex", True):
        return PLAIN
    if names == ["Split", "ByteLevel"]:
        found = SPLITS.get(steps[0]["pattern"].get("Regex", ""))
        if found is not None:
            return found
    raise _unknown(f"a tokenizer that splits by {' and '.join(names) or 'nothing'}")


def _unknown(what: str) -> ConfigInvalidError:
    return ConfigInvalidError(
        f"{what} cannot be written as GGUF, only SentencePiece's BPE and those of GPT-2, Llama 3 "
        "and Qwen: leave GGUF out",
        field=FIELD,
    )


def _tokens(known: Mapping[str, Any], size: int) -> Iterator[tuple[str, int]]:
    """Yield each token's text and type, by its number."""
    from gguf import TokenType  # noqa: PLC0415 - only this export needs it

    texts = {number: token for token, number in known["model"]["vocab"].items()}
    added = {token["id"]: token for token in known["added_tokens"]}
    unknown = known["model"].get("unk_token")
    for number in range(size):
        if number in added:
            token = added[number]
            special = TokenType.UNKNOWN if token["content"] == unknown else TokenType.CONTROL
            yield token["content"], special if token["special"] else TokenType.USER_DEFINED
        elif number in texts:
            byte = BYTE.match(texts[number]) and known["model"].get("byte_fallback")
            yield texts[number], TokenType.BYTE if byte else TokenType.NORMAL
        else:
            yield f"[PAD{number}]", TokenType.UNUSED


def _scores(merges: list[str], tokens: tuple[str, ...]) -> list[float]:
    """Return SentencePiece's scores: the earlier a merge was learned, the higher."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges, start=1):
        ranks.setdefault(merge.replace(" ", ""), rank)
    return [-float(ranks.get(token, 0)) for token in tokens]
