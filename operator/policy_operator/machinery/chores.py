"""Housekeeping: each thing is done every minute, and what goes wrong with one stops no other."""

import logging
import ssl
from collections.abc import Awaitable, Callable

from policy_operator.machinery.errors import ApiError
from policy_operator.machinery.outage import Unreachable

log = logging.getLogger(__name__)

# What a refusal, an absent API server, or the content of an object that people can edit may raise.
EXPECTED = (ApiError, OSError, ValueError, TypeError, ssl.SSLError)


class Chore:
    """Something to do now and then; what is wrong is said once, and when it is well again."""

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        tell: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        """Make a chore.

        Args:
            name: What log lines call it.
            work: Does it.
            tell: Tells users of an error, beside the log; called each time that it fails.
        """
        self._name = name
        self._work = work
        self._tell = tell
        self.trouble = ""
        """What was wrong when it was last tried."""
        self.done = False

    async def do(self) -> bool:
        """Do it; say whether it is done."""
        self.done = False
        try:
            await self._work()
        except Unreachable:
            return False
        except EXPECTED as error:
            text = str(error) or type(error).__name__
            if text != self.trouble:
                log.error("%s: %s", self._name, text)  # noqa: TRY400 - the sentence says it all
            self.trouble = text
            self._tell(error)
            return False
        if self.trouble:
            log.info("%s: well again", self._name)
        self.trouble = ""
        self.done = True
        return True
