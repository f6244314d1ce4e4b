"""A question and the context that its answer stands in, of any length, as the tokenizer of a checkpoint joins them.

Every window has the whole question and a part of the context. `windows.json` says how long answers may be, and when
there is none.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from tledge.errors import BundleError, InputError
from tledge.inputs._one_pass import Array
from tledge.inputs._windows import FILE, Cut, WindowedInput, stacked
from tledge.inputs.text_pair import TextPairInput

EXAMPLES = (
    ("When does the ferry leave?", "The ferry leaves the harbour at seven in the morning."),
    ("Is this seat taken?", "No, please sit down!"),
    ("Qu'est-ce que le garçon a mangé ?", "Le garçon a mangé une crème brûlée à Orléans, et l'été fut très doux."),
    ("图书馆几点开门？", "图书馆在火车站的右边，每天早上九点开门。"),
    ("Who waves? 👋🏽", "Good luck 🍀 and see you soon 👋🏽, said Ana.\r\nShe waved\tand went."),
    (
        "What does the walk reach?",
        "A long walk follows the river past mills, orchards and two stone bridges before it reaches the lake. " * 12,
    ),
)
"""What golden vectors are made of; the same for every bundle and nobody's data."""


class QuestionInput(WindowedInput, TextPairInput):
    """The tokenizer of a checkpoint or bundle, for tuples of a question and a context; else as `WindowedInput`.

    `max_answer_length` is how many tokens an answer has at most. `no_answer_threshold` is how much the logit of no
    answer must be above that of the best answer to be given instead; infinite for a model that always answers.
    """

    expected = "a question and a context"
    max_answer_length: int
    no_answer_threshold: float

    @classmethod
    def load(cls, folder: Path) -> Self:
        """As for `WindowedInput`, and what answers may be.

        Raises:
            BundleError: a file is missing or damaged.
        """
        found = super().load(folder)
        longest, threshold = found.facts.get("max_answer_length"), found.facts.get("no_answer_threshold")
        if not isinstance(longest, int) or isinstance(longest, bool) or longest < 1:
            raise BundleError(f"{folder / FILE}: max_answer_length must be 1 token or more, got {longest!r:.60}")
        if threshold is not None and not _is_finite(threshold):
            raise BundleError(f"{folder / FILE}: no_answer_threshold must be a finite number, got {threshold!r:.60}")
        found.max_answer_length = longest
        found.no_answer_threshold = math.inf if threshold is None else float(threshold)
        return found

    def check(self, value: object) -> None:
        """Nothing for a question and a context that can be encoded.

        Raises:
            InputError: `value` is no tuple or list of two `str`, or one is empty or holds half a surrogate pair.
        """
        super().check(value)
        for name, text in zip(("question", "context"), value, strict=True):  # type: ignore[call-overload]
            if not text.strip():
                raise InputError(f"the {name} is empty; expected a question, and the text that its answer stands in")

    def always_answering(self) -> Self:
        """The same, for a model that answers every question."""
        other = copy.copy(self)
        other.no_answer_threshold = math.inf
        return other

    def examples(self) -> list[tuple[str, str]]:  # type: ignore[override]
        """The questions of golden vectors."""
        return list(EXAMPLES)

    def joined(self, values: Sequence[Any], cuts: Sequence[Cut], logits: Sequence[Array]) -> dict[str, Array]:
        """The outputs of whole contexts from those of their windows.

        Args:
            values: questions and contexts.
            cuts: their windows.
            logits: `(tokens of the window, 2)` for each window of each context in turn.

        Returns:
            What `WindowedInput` gives, `offsets` being those of the context; `usable`, `(values, tokens) bool`, which
            tokens hold more than white space; `nothing`, `(values, 2)`, the logits of no answer, which are those of the
            first token in the window where their sum is the lowest (as BERT does for SQuAD 2.0); and the settings
            `max_answer_length` and `no_answer_threshold`, `(values,)`.
        """
        found = super().joined(values, cuts, logits)
        nothing, usable, at = [], [], 0
        for (_, context), cut in zip(values, cuts, strict=True):
            firsts = [window[0] for window in logits[at : at + len(cut)]]
            nothing.append(min(firsts, key=lambda each: float(each.sum())))
            usable.append(np.asarray([bool(context[a:b].strip()) for a, b in cut.offsets.tolist()], bool))
            at += len(cut)
        return found | {
            "usable": stacked(usable, False),
            "nothing": np.stack(nothing),
            "max_answer_length": np.full(len(values), self.max_answer_length),
            "no_answer_threshold": np.full(len(values), self.no_answer_threshold),
        }


Input = QuestionInput


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
