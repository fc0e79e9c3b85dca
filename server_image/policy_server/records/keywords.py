"""The words that say what feedback comes to."""

from collections.abc import Sequence
from dataclasses import dataclass

from policy_api.contract.artifact import PolicyManifest
from policy_api.v1alpha1.recipes.plan_preference import PlanPreference

_WORDS = PlanPreference()


@dataclass(frozen=True)
class Keywords:
    """Words that say what feedback comes to."""

    positive: Sequence[str] = tuple(_WORDS.positive_keywords)
    negative: Sequence[str] = tuple(_WORDS.negative_keywords)

    @classmethod
    def of(cls, manifest: PolicyManifest) -> "Keywords":
        """Return those that a version was trained by, or else the recipe's own."""
        block = manifest.config.get("planPreference")
        try:
            found = PlanPreference.model_validate(block or {}, extra="ignore")
        except ValueError:  # of a newer trainer
            return cls()
        return cls(tuple(found.positive_keywords), tuple(found.negative_keywords))
