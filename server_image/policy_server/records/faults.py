"""What a database's error means: it is away, two writers crossed, or an entry is no good."""

import sqlalchemy as sa

# Classes of SQLSTATE: data that no column takes, and limits of one row.
_OF_THE_ENTRY = ("22", "23", "54")
_CROSSING = ("40001", "40P01")  # serialization failure, deadlock


class AwayError(Exception):
    """The database can't be reached, or does not take anything now."""


def is_away(error: sa.exc.DBAPIError) -> bool:
    """Whether it would refuse any entry: it is gone, full, slow, or lacks the tables."""
    state = _state(error)
    if state is not None:
        return not state.startswith(_OF_THE_ENTRY)
    return not isinstance(error, sa.exc.DataError | sa.exc.IntegrityError)


def is_crossing(error: sa.exc.DBAPIError) -> bool:
    """Whether another writer was in the way, so that trying again helps."""
    return _state(error) in _CROSSING


def sentence(error: BaseException) -> str:
    """Return what to say of an error: never a value that was to be written, nor the URL."""
    if not isinstance(error, sa.exc.DBAPIError):
        return f"{type(error).__name__}: {error}" if isinstance(error, OSError) else _name(error)
    said = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    state = _state(error)
    if state is not None and state.startswith(_OF_THE_ENTRY):
        said = None  # it quotes the value
    elif said is None and state is None:
        said = " ".join(str(error.orig).split())  # it could not be connected to
    kind = _name(error.orig or error)
    return f"{kind}: {said}" if said else kind


def _name(error: BaseException) -> str:
    return type(error).__name__


def _state(error: sa.exc.DBAPIError) -> str | None:
    found = getattr(error.orig, "sqlstate", None)
    return found if isinstance(found, str) else None
