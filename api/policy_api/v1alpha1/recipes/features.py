"""Columns of tabular data that a model looks at."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from policy_api.base import ApiModel, list_map

ColumnName = Annotated[str, Field(min_length=1, max_length=128)]


class FeatureType(StrEnum):
    """What a column holds."""

    NUMERIC = "Numeric"
    CATEGORICAL = "Categorical"
    LIST = "List"


class Feature(ApiModel):
    """One column, and how it is read."""

    name: ColumnName = Field(description="Name of the column.")
    type: FeatureType = Field(
        description=(
            "Numeric: a number, empty when it is not known. Categorical: a text. List: a list of "
            "texts, of which each may be there or not."
        )
    )


Features = Annotated[
    list[Feature],
    Field(
        default_factory=list,
        max_length=512,
        description=(
            "Columns that the model looks at. Unset: every other column of the data, each read by "
            "what its values are."
        ),
        json_schema_extra=list_map("name"),
    ),
]
Forbidden = Annotated[
    list[ColumnName],
    Field(
        default_factory=list,
        max_length=512,
        description=(
            "Columns that must never be looked at: names of rows, and what is only known after "
            "the decision."
        ),
    ),
]
