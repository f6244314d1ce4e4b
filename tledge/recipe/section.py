"""What every section of a recipe is."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(gt=0, lt=1)]
Rows = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of a recipe: frozen, without unknown keys, each value of the type that it is written with."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        validate_default=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any) -> Any:
        """A section whose keys are all commented out reads as null in YAML; it means the defaults."""
        return {} if value is None else value
