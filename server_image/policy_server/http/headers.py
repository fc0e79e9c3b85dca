"""The headers that routes read."""

from typing import Annotated

from fastapi import Header
from policy_api import keys

Role = Annotated[str | None, Header(alias=keys.ROLE_HEADER, include_in_schema=False)]
Accept = Annotated[str | None, Header(include_in_schema=False)]
