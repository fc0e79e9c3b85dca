"""Why something is not kept, or not found; free of the libraries that a log needs."""


class LogFullError(Exception):
    """The log can't keep any more: try again later."""


class ForeignDecisionError(Exception):
    """The decision is of another policy's log."""


class RefusedEntryError(Exception):
    """The database can't keep this, and would not the next time."""


class LogAwayError(Exception):
    """The database can't be asked now."""
