"""How an answer's body is written: one form for responses and for events."""

from fastapi import Response
from pydantic import BaseModel


def text_of(body: BaseModel) -> str:
    """Return a body as JSON, in the interface's names and without nulls."""
    return body.model_dump_json(by_alias=True, exclude_none=True)


def json_response(body: BaseModel, status: int = 200) -> Response:
    """Return the response that has this body."""
    return Response(text_of(body), status, media_type="application/json")
