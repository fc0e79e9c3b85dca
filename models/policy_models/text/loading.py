"""Loads the transformers model of a text artifact, on CPU or GPU."""

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

log = logging.getLogger(__name__)


def load(auto_class: Any, folder: Path, threads: int) -> tuple[Any, Any]:
    """Return the model and the tokenizer in `folder`, whose files were checked before.

    It takes seconds.

    Args:
        auto_class: transformers' AutoModelFor… of the kind.
        folder: Has the files.
        threads: Of torch.
    """
    torch.set_num_threads(threads)
    disable_progress_bar()  # the log is JSON
    cuda = torch.cuda.is_available()
    model = auto_class.from_pretrained(
        folder,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        # Half precision on a CPU without its instructions is slower than none.
        dtype="auto" if cuda else torch.float32,
    )
    model.to("cuda" if cuda else "cpu").eval()
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    log.info(
        "loaded %s, %.1f million weights, on %s",
        type(model).__name__,
        model.num_parameters() / 1e6,
        model.device,
    )
    return model, tokenizer


def context(config: Any) -> int | None:
    """Return the most tokens that the model was built for, or None where there is no bound."""
    value = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return value if isinstance(value, int) and value > 0 else None
