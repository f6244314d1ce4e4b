"""Texts of any length that are answered word by word, with the `tokenizers` library and `windows.json`.

A word is what the tokenizer's own first step parts, such as `U`, `.` and `S` of `U.S`, or one Chinese character; its
tokens are taken together as `aggregation` says:

===========  ==========================================================================================================
`first`      the probabilities of its first token
`average`    the mean of those of all its tokens
`max`        those of the token that is surest of one answer
`simple`     every token is taken for a word of its own
===========  ==========================================================================================================

They are those of transformers' pipeline for tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from tledge import metrics
from tledge.errors import BundleError
from tledge.inputs._one_pass import Array
from tledge.inputs._windows import FILE, Cut, WindowedInput, stacked
from tledge.inputs.text import Ids

AGGREGATIONS = ("first", "average", "max", "simple")


class WordsInput(WindowedInput):
    """The tokenizer of a checkpoint or bundle for texts that are answered word by word; else as `WindowedInput`."""

    aggregation: str

    @classmethod
    def load(cls, folder: Path) -> Self:
        """As for `WindowedInput`, and how tokens become words.

        Raises:
            BundleError: a file is missing or damaged.
        """
        found = super().load(folder)
        aggregation = found.facts.get("aggregation")
        if aggregation not in AGGREGATIONS:
            raise BundleError(
                f"{folder / FILE}: aggregation must be one of {', '.join(AGGREGATIONS)}, got {aggregation!r:.60}"
            )
        found.aggregation = aggregation
        return found

    def holds(self, cell: object) -> bool:
        """Whether a cell of a table holds a text, or the tokens of one."""
        if isinstance(cell, Sequence) and not isinstance(cell, str):
            return bool(cell) and all(super(WordsInput, self).holds(token) for token in cell)
        return super().holds(cell)

    def of_cells(self, cells: Sequence[Any], folder: Path) -> str:
        """The text in the cell of a row; tokens are joined."""
        cell = cells[0]
        return super().of_cells([cell if isinstance(cell, str) else joined_text(cell)], folder)

    def joined(self, values: Sequence[Any], cuts: Sequence[Cut], logits: Sequence[Array]) -> dict[str, Array]:
        """The probabilities of whole texts' words from the outputs of their windows.

        Args:
            values: the texts.
            cuts: their windows.
            logits: `(tokens of the window, outputs)` for each window of each text in turn.

        Returns:
            `probabilities`, `(values, words, outputs)`, `offsets`, `(values, words, 2) int64`, both padded with zeros
            behind the last word, and `values`, the texts.
        """
        whole = super().joined(values, cuts, logits)
        words = [
            by_word(metrics.softmax(row[: len(cut.words)]), cut, self.aggregation)
            for row, cut in zip(whole["logits"], cuts, strict=True)
        ]
        return {
            "probabilities": stacked([probabilities for probabilities, _ in words], 0),
            "offsets": stacked([offsets for _, offsets in words], 0),
            "values": whole["values"],
        }


Input = WordsInput


def by_word(probabilities: Array, cut: Cut, aggregation: str) -> tuple[Array, Ids]:
    """The probabilities `(words, outputs)` of a text's words, and where they stand, `(words, 2) int64`.

    Args:
        probabilities: of its tokens, `(tokens, outputs)`.
        cut: its tokens and words.
        aggregation: one of `AGGREGATIONS`.
    """
    if aggregation == "simple" or not len(cut.words):
        return probabilities, cut.offsets
    first = np.flatnonzero(np.diff(cut.words, prepend=-2))
    sizes = np.diff(np.append(first, len(cut.words)))
    offsets = np.stack([cut.offsets[first, 0], np.maximum.reduceat(cut.offsets[:, 1], first)], axis=1)
    if aggregation == "first":
        return probabilities[first], offsets
    if aggregation == "average":
        return np.add.reduceat(probabilities, first) / sizes[:, None], offsets
    surest = probabilities.max(axis=1)
    at = [start + int(surest[start : start + size].argmax()) for start, size in zip(first, sizes, strict=True)]
    return probabilities[at], offsets


def joined_text(tokens: Iterable[str]) -> str:
    """Tokens as one text: with a space between two, but none between two Chinese, Japanese or Korean characters."""
    return "".join(before + token for before, token in _parted(tokens))


def token_offsets(tokens: Iterable[str]) -> list[tuple[int, int]]:
    """Where each token stands in `joined_text` of all, in code points."""
    found, at = [], 0
    for before, token in _parted(tokens):
        at += len(before)
        found.append((at, at + len(token)))
        at += len(token)
    return found


def _parted(tokens: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Each token with what stands before it."""
    last = ""
    for token in tokens:
        parted = last and not (_is_cjk(last[-1:]) and _is_cjk(token[:1]))
        yield (" " if parted else ""), token
        last = token


def _is_cjk(character: str) -> bool:
    """Whether a character is of a script that is written without spaces, its punctuation included."""
    number = ord(character) if character else 0
    return (
        0x3000 <= number <= 0x30FF  # CJK punctuation, Hiragana, Katakana
        or 0x3400 <= number <= 0x4DBF
        or 0x4E00 <= number <= 0x9FFF
        or 0xF900 <= number <= 0xFAFF
        or 0xFF00 <= number <= 0xFFEF  # full-width forms
        or 0x20000 <= number <= 0x323AF
    )
