"""The block of recipe Classifier."""

from enum import StrEnum

from pydantic import Field

from policy_api.base import ApiModel, rule, rules
from policy_api.v1alpha1.recipes.features import ColumnName, Features, Forbidden


class XGBoost(ApiModel):
    """Gradient-boosted trees (Chen and Guestrin 2016), by the xgboost package."""

    rounds: int = Field(default=300, ge=1, le=100_000, description="Number of trees.")
    learning_rate: float = Field(
        default=0.03, gt=0, le=1, description="Learning rate: how much each tree contributes."
    )
    max_depth: int = Field(default=3, ge=1, le=32, description="Greatest depth of a tree.")
    min_child_weight: float = Field(
        default=5.0, ge=0, description="Least sum of second derivatives in a leaf."
    )
    subsample: float = Field(default=0.8, gt=0, le=1, description="Share of rows of each tree.")
    column_sample: float = Field(
        default=0.8, gt=0, le=1, description="Share of columns of each tree."
    )
    l2: float = Field(default=1.0, ge=0, description="L2 penalty on the leaves' values.")


class LogisticRegression(ApiModel):
    """Logistic regression on standardised and one-hot columns, by scikit-learn."""

    c: float = Field(default=1.0, gt=0, description="Inverse of the L2 penalty.")


class Calibration(StrEnum):
    """How scores become probabilities."""

    ISOTONIC = "Isotonic"
    NONE = "None"


class Classifier(ApiModel):
    """The probability that a row is of the positive class, calibrated."""

    model_config = rules(
        rule(
            "!has(self.xgboost) || !has(self.logisticRegression)",
            "set at most one of xgboost, logisticRegression",
        ),
        rule(
            "!has(self.features) || !has(self.forbidden) || "
            "!self.features.exists(f, f.name in self.forbidden)",
            "a column must not be both in features and in forbidden",
        ),
        rule(
            "!has(self.features) || !self.features.exists(f, f.name == self.label)",
            "label must not be one of features",
        ),
    )

    label: ColumnName = Field(description="Column that says the class.")
    positive: str = Field(
        default="1", min_length=1, max_length=256, description="The positive class's value in it."
    )
    features: Features
    forbidden: Forbidden
    leak_auc: float = Field(
        default=0.99,
        gt=0.5,
        le=1,
        description=(
            "A single column whose own AUC on the training data reaches this is refused: it says "
            "the class instead of predicting it. 1 lets all but perfect ones pass."
        ),
    )
    xgboost: XGBoost | None = Field(
        default=None, description="Gradient-boosted trees; also when neither model is set."
    )
    logistic_regression: LogisticRegression | None = Field(
        default=None, description="Logistic regression instead."
    )
    calibration: Calibration = Field(
        default=Calibration.ISOTONIC,
        description="Isotonic: learned on rows that the model has not seen (Zadrozny 2002).",
    )
    calibration_percent: int = Field(
        default=20, ge=5, le=50, description="Percent of the training rows kept for it."
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        le=20,
        description=(
            "Take the metrics by cross-validation over this many folds of `train`, instead of on "
            "`test` or `validation`."
        ),
    )
