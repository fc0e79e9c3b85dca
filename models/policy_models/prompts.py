"""What a text policy is asked where rows and callers have objects: training and serving. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def of_object(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return an object, or a list, as JSON with sorted keys: the same text whoever writes it."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
