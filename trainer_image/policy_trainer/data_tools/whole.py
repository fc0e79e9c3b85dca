"""Judge inputs as a whole: what would end the training after it has read every row."""

from collections import defaultdict
from pathlib import Path

from policy_api.v1alpha1.recipes.blocks import RecipeBlocks
from policy_api.v1alpha1.recipes.common import Recipe

from policy_trainer import checks, pairs
from policy_trainer.data import Row
from policy_trainer.data_tools.index import Prompts
from policy_trainer.data_tools.summary import MOST, OTHERS, Summary


class Whole:
    """Takes the rows of all parts, and judges them when they have passed.

    Args:
        run: The recipe, whose check the rows have passed.
        scratch: A folder for what must be remembered of them.
    """

    def __init__(self, run: RecipeBlocks, scratch: Path) -> None:
        self.parts: dict[str, Summary] = defaultdict(lambda: Summary(run))
        self._run, self._scratch = run, scratch
        self._first: dict[tuple[str, str], int] = {}  # row, by part and action
        self._prompts: dict[str, Prompts | None] = {}  # by part; None: there is a pair

    def add(self, part: str, row: Row, number: int) -> None:
        """Take a row in, as the recipe's check returned it, from this line."""
        self.parts[part].add(row)
        if self._run.recipe is Recipe.CQL and len(self._first) < MOST:
            self._first.setdefault((part, row["action"]), number)
        if self._run.recipe in {Recipe.DPO, Recipe.REWARD_MODEL}:
            self._pair(part, row)

    def _pair(self, part: str, row: Row) -> None:
        if part not in self._prompts:
            self._prompts[part] = Prompts(self._scratch / f"{part}-prompts.db")
        prompts = self._prompts[part]
        if prompts is None:
            return
        if "label" not in row or all(prompts.add(row["prompt"], row["label"])):
            self._prompts[part] = None

    def check(self) -> None:
        """Judge.

        Raises:
            DataInvalidError: what the training would say.
        """
        for part, prompts in self._prompts.items():
            if prompts is not None:
                raise pairs.none(part, prompts.totals()[0])
        if "train" not in self.parts:
            return
        kinds = self.parts["train"].kinds
        checks.enough(self._run, kinds)
        if self._run.cql is not None and OTHERS not in kinds:  # else not all of them are known
            space = checks.choices(set(kinds), self._run.cql.actions)
            for (part, action), number in self._first.items():
                checks.chosen(action, space, part, number, "cql")
