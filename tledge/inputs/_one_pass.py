"""Values that a model answers in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]
"""One pass of a model: input tensors by name to output tensors by name."""


class OnePass:
    """An input whose every value is one row of the tensors that its subclass's `encode` makes."""

    def encode(self, values: Sequence[Any]) -> dict[str, Any]:
        """One tensor a name, a row for each value."""
        raise NotImplementedError

    def holds(self, cell: object) -> bool:
        """Whether a cell of a table holds what a value is made of."""
        return isinstance(cell, str) and bool(cell.strip())

    def passes(self, values: Sequence[Any]) -> tuple[list[dict[str, Array]], Any]:
        """The tensors of each pass of a model that values take, and what `whole` needs to know of them.

        Raises:
            InputError: a value cannot be encoded.
        """
        return [self.encode(values)], None

    def whole(self, outputs: Sequence[Mapping[str, Array]], known: Any) -> dict[str, Array]:  # noqa: ARG002
        """The outputs with a row for each value, of those of its passes."""
        return dict(outputs[0])

    def golden(self, run: Run) -> Run:
        """A run that gives what golden vectors keep of outputs: all of it."""
        return run

    def answers(self, run: Run, values: Sequence[Any]) -> tuple[dict[str, Array], dict[str, Array]]:
        """The outputs of a model for some values, a row each, and the tensors of the first pass.

        Raises:
            InputError: a value cannot be encoded.
        """
        tensors, known = self.passes(values)
        return self.whole([run(each) for each in tensors], known), tensors[0]
