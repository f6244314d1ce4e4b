"""Two texts together to token ids, as the tokenizer of a checkpoint joins them.

The tensors equal those of transformers' `AutoTokenizer` called with both texts and `padding=True, truncation=True`:
where both are too long together, the longer one is cut first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tledge.errors import InputError
from tledge.inputs.text import SENTENCES, TextInput


class TextPairInput(TextInput):
    """The tokenizer of a checkpoint or bundle, for tuples of two texts; else as `TextInput`."""

    is_pair = True

    def check(self, value: object) -> None:
        """Nothing for two texts that can be encoded.

        Raises:
            InputError: `value` is no tuple or list of two `str`, or one holds half a surrogate pair.
        """
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise InputError(f"expected two texts, such as ('a', 'b'), got {type(value).__name__}: {value!r:.60}")
        for text in value:
            super().check(text)

    def is_one(self, values: object) -> bool:
        """Whether this is one pair of texts rather than several pairs."""
        is_pair = isinstance(values, tuple) and len(values) == 2 and all(isinstance(each, str) for each in values)
        return is_pair or isinstance(values, str) or not isinstance(values, Iterable)

    def of_cells(self, cells: Sequence[str], folder: Path) -> tuple[str, ...]:  # type: ignore[override]  # noqa: ARG002
        """The value in the cells of a row."""
        return tuple(cells)

    def examples(self) -> list[tuple[str, str]]:  # type: ignore[override]
        """The sentences of golden vectors, each with the one after it."""
        return list(zip(SENTENCES, (*SENTENCES[1:], SENTENCES[0]), strict=True))


Input = TextPairInput
