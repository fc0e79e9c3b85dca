"""Which rows stay together when they are split or sampled."""

from policy_api.v1alpha1.recipes.common import TEXT_RECIPES, Recipe

from policy_trainer import data
from policy_trainer.data import Place, Row

EPISODE = "(episode)"  # consecutive rows until `done`
ROW = "(row)"  # equal rows


def default(recipe: Recipe) -> str:
    """Return what keeps the rows of a recipe together: a field, EPISODE or ROW."""
    if recipe in TEXT_RECIPES:
        return "prompt"
    if recipe is Recipe.PLAN_PREFERENCE:
        return "plan"
    return EPISODE if recipe is Recipe.CQL else ROW


class Groups:
    """Tells each row's group; the rows must come in their order.

    Args:
        by: EPISODE, ROW, or a field whose value rows of one group share.
    """

    def __init__(self, by: str) -> None:
        self.by = by
        self._episode = ""  # the first row of the one that was seen last
        self._ended = True
        self._file = ""

    def see(self, row: Row, place: Place) -> None:
        """Note a row that was read, also one that will be dropped: it may end an episode."""
        if self.by != EPISODE:
            return
        if self._ended or place.source.uri != self._file:
            self._episode, self._file = data.canonical({EPISODE: row}), place.source.uri
        self._ended = row.get("done", row.get("next_state") is None) is True

    def of(self, row: Row, line: str, place: Place) -> str:
        """Return the group of the row that was seen last.

        Args:
            row: Has the field.
            line: What will be written, as canonical JSON.
            place: Where it stands.

        Raises:
            DataInvalidError: the row has not the field.
        """
        if self.by == ROW:
            return line
        if self.by == EPISODE:
            return self._episode
        if self.by not in row:
            raise place.error(
                f"field {self.by!r} is missing: rows are kept together by it", self.by
            )
        return data.canonical({self.by: row[self.by]})
