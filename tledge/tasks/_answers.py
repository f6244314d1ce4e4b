"""What all tasks share that answer with a part of a context, or with nothing.

An answer is a part of the context and where it begins, in code points, so that `context[start:end]` is its text. A
model gives each token two logits, to be the first and the last token of the answer, and answers "nothing" with the
first token of its input (Devlin et al. 2019, section 4.3).

Targets are `(rows, answers, 2 + characters) int32`: where each answer begins, how many characters it has, and their
code points, padded with -1; a question without an answer has -1 alone.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tledge.errors import InputError
from tledge.inputs._windows import Cut
from tledge.tasks import HIGHER, Outputs, _answer_spans
from tledge.tasks._answer_cells import Answer, answers_in
from tledge.tasks._answer_text import best

__all__ = [
    "BESIDE",
    "LABELS",
    "LABEL_COLUMN",
    "LEAST_LABELS",
    "LOSS",
    "LOSSES",
    "METRIC",
    "METRICS",
    "MIXES",
    "NEEDS_LABEL",
    "N_LABELS",
    "OPTIONS",
    "PROBLEM_TYPE",
    "TAKES_FLAGS",
    "agree",
    "decode",
    "label_names",
    "most_frequent",
    "narrowed",
    "numbered",
    "output_names",
    "parse_label",
    "predictions",
    "records",
    "renamed",
    "score",
    "target_scale",
    "targets",
]  # fmt: skip

LABELS = "answers"
LABEL_COLUMN = "answers"
BESIDE = ("answer_start",)
OPTIONS = ("top_k",)
TAKES_FLAGS = False
MIXES = False
N_LABELS = range(1, 2)
LEAST_LABELS = 1
NEEDS_LABEL = False
METRIC = "f1"
METRICS = {"f1": HIGHER, "exact_match": HIGHER}
LOSS = "answer_span"
LOSSES = ("answer_span",)
PROBLEM_TYPE = "question_answering"

MOST = 20
"""Answers that can be asked for."""
NAME = "answer"
"""The one label: rows with an answer have it."""
_HEAD = 2  # numbers of an answer before its characters
_FAR = 1e6  # the margin where a context has no span
_REMEMBERED = 1 << 16  # rows whose figures are kept: a bootstrap asks for the same ones again and again

Numbers = npt.NDArray[Any]


def parse_label(
    cell: object,
    separator: str,  # noqa: ARG001
    decimal: str,  # noqa: ARG001
    given: Sequence[object] = (),
) -> tuple[Answer, ...]:
    """The answers in a raw cell, as `tledge.tasks._answer_cells.answers_in` reads them; `given` ends with the context.

    Raises:
        ValueError: the cell holds something else, or an answer is not in the context; the message says what was
        expected.
    """
    return answers_in(cell, str(given[-1]) if given else "")


def renamed(label: Sequence[Answer], names: Mapping[str, str]) -> tuple[Answer, ...]:  # noqa: ARG001
    """The same answers: they have no names."""
    return tuple(label)


def label_names(label: Sequence[Answer]) -> tuple[str, ...]:
    """That there is an answer, if there is one."""
    return (NAME,) if label else ()


def numbered(label: Sequence[Answer], names: Iterable[str]) -> list[int]:  # noqa: ARG001
    """Of each answer the place that it begins at, how many characters it has, and their code points."""
    return [number for each in label for number in (each.start, len(each.text), *map(ord, each.text))]


def targets(labels: Sequence[Sequence[int]], n_labels: int) -> Numbers:
    """The answers of rows, `(rows, answers, 2 + characters) int32`, from what `numbered` gives of each."""
    assert n_labels <= 1
    rows = [list(_parted(row)) for row in labels]
    most = max((len(row) for row in rows), default=0)
    longest = max((len(answer) for row in rows for answer in row), default=0)
    result = np.full((len(rows), max(1, most), max(_HEAD, longest)), -1, np.int32)
    for target, row in zip(result, rows, strict=True):
        for place, answer in zip(target, row, strict=False):
            place[: len(answer)] = answer
    return result


def _parted(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """The numbers of each answer."""
    at = 0
    while at < len(numbers):
        end = at + _HEAD + int(numbers[at + 1])
        yield numbers[at:end]
        at = end


def output_names(labels: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG001
    """Whether a token is the first of the answer, and whether it is the last."""
    return ("start", "end")


def align(target: Numbers, cut: Cut, *, from_end: bool = False) -> list[npt.NDArray[np.int64]]:
    """What each window of a row learns, `(1, 5) int64`.

    The places of the first and the last token of its first right answer, of the token that stands for no answer, the
    first one, and of the context's first token; and how many tokens of the context it has. A window that does not hold
    the whole answer has none.

    Args:
        target: the answers, `(answers, 2 + characters)`, padded with -1.
        cut: the windows of the question and its context.
        from_end: count places from the end, and so below zero, where shorter windows are padded on the left.
    """
    start, size = (int(number) for number in target[0, :_HEAD])
    touched = np.flatnonzero((cut.offsets[:, 0] < start + size) & (cut.offsets[:, 1] > start) & (start >= 0)).tolist()
    found = []
    for window in range(len(cut)):
        places, tokens = cut.inside(window)
        is_inside = bool(touched) and tokens.start <= touched[0] and touched[-1] < tokens.stop
        first, last = (places.start + touched[i] - tokens.start if is_inside else 0 for i in (0, -1))
        shift = len(cut.ids[window]) if from_end else 0
        found.append(
            np.asarray([[first - shift, last - shift, -shift, places.start - shift, tokens.stop - tokens.start]])
        )
    return found


class Found(NamedTuple):
    """An answer: its text and place in the context, all empty or -1 for none, and its score (0 to 1)."""

    answer: str
    start: int
    end: int
    score: float


def answers(outputs: Outputs, row: int, count: int) -> tuple[list[Found], float]:
    """The best answers of a row, and how much no answer is above the best of them, as a sum of logits.

    Args:
        outputs: what `QuestionInput.joined` gives.
        row: its number.
        count: how many answers at most; those that are the same part of the context count once.
    """
    context = outputs["values"][row][1]
    offsets = outputs["offsets"][row]
    wanted = count
    while True:
        spans = _answer_spans.find(
            outputs["logits"][row],
            outputs["usable"][row],
            outputs["nothing"][row],
            longest=int(outputs["max_answer_length"][row]),
            count=wanted,
        )
        ranked = spans.ranked(float(outputs["no_answer_threshold"][row]), wanted)
        found = [_found(context, offsets, span) for span in ranked]
        distinct = list({(each.start, each.end): each for each in reversed(found)}.values())[::-1]
        if len(distinct) >= count or len(spans.best) < wanted:
            return distinct[:count], spans.margin
        wanted *= 2


def _found(context: str, offsets: Numbers, span: _answer_spans.Span) -> Found:
    if span.first < 0:
        return Found("", -1, -1, span.score)
    start, end = inside(context, int(offsets[span.first, 0]), int(offsets[span.last, 1]))
    return Found(context[start:end], start, end, span.score)


def decode(outputs: Outputs, labels: Sequence[str]) -> list[dict[str, Any]]:  # noqa: ARG001
    """The best answers of each row of what `QuestionInput.joined` gives: `answer`, `start`, `end` and `score`.

    Where there is none the answer is empty, and its place is -1. `answers` are the best ones, the first of them too.
    """
    found = []
    for row in range(len(outputs["values"])):
        ranked = [each._asdict() for each in answers(outputs, row, MOST)[0]]
        found.append(ranked[0] | {"answers": ranked})
    return found


def narrowed(answer: dict[str, Any], top_k: int | None = None) -> dict[str, Any]:
    """An answer with the `top_k` best ones as `answers`, or without them.

    Raises:
        InputError: `top_k` is no number of 1 to `MOST`.
    """
    if top_k is None:
        return {name: value for name, value in answer.items() if name != "answers"}
    if not isinstance(top_k, int) or isinstance(top_k, bool) or not 1 <= top_k <= MOST:
        raise InputError(f"top_k must be 1 to {MOST} answers, got {top_k!r:.60}")
    return answer | {"answers": answer["answers"][:top_k]}


def records(outputs: Outputs, inputs: Outputs) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG001
    """The best answer of each row of what `QuestionInput.joined` gives.

    Its code points are `answer`, `(rows, characters) int32`, padded with -1; `start` and `end` are where it stands, -1
    for no answer, and `score` is its own. `margin` is how much the logit of no answer is above that of the best span.
    All but the first are `(rows,)`.
    """
    best_ones = [answers(outputs, row, 1) for row in range(len(outputs["values"]))]
    found = [ranked[0] for ranked, _ in best_ones]
    longest = max((len(each.answer) for each in found), default=0)
    characters = np.full((len(found), max(1, longest)), -1, np.int32)
    for target, each in zip(characters, found, strict=True):
        target[: len(each.answer)] = [ord(character) for character in each.answer]
    return {
        "answer": characters,
        "start": np.asarray([each.start for each in found], np.int64),
        "end": np.asarray([each.end for each in found], np.int64),
        "score": np.asarray([each.score for each in found], np.float64),
        "margin": np.asarray([min(margin, _FAR) for _, margin in best_ones], np.float64),
    }


def predictions(records: Outputs) -> npt.NDArray[np.int64] | None:
    """None: an answer is nearer or further; of a model's own outputs, `logits (rows, tokens, 2)`, the surest tokens."""
    return np.asarray(records["logits"].argmax(axis=1), np.int64) if "logits" in records else None


def agree(ours: Outputs, theirs: Outputs) -> npt.NDArray[np.bool_]:
    """Whether both answer a row with the same part of its context, `(rows,) bool`."""
    return np.asarray((ours["start"] == theirs["start"]) & (ours["end"] == theirs["end"]))


def score(records: Outputs, targets: Numbers) -> dict[str, float]:
    """F1 and exact match, each the mean over questions of that with the nearest right answer.

    Where there are questions without an answer, both of those that have one too, and the share of the others that got
    none.
    """
    exact, f1 = figures(records["answer"], targets)
    has_answer = targets[:, 0, 0] >= 0
    found = {"f1": float(f1.mean()), "exact_match": float(exact.mean())}
    if has_answer.all():
        return found
    found["no_answer_accuracy"] = float(exact[~has_answer].mean())
    if has_answer.any():
        found |= {
            "f1_answerable": float(f1[has_answer].mean()),
            "exact_match_answerable": float(exact[has_answer].mean()),
        }
    return found


def most_frequent(train: Numbers, n_labels: int) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG001
    """The records of a row that gets no answer."""
    return {
        "answer": np.full(1, -1, np.int32),
        "start": np.asarray(-1),
        "end": np.asarray(-1),
        "score": np.asarray(0.0),
        "margin": np.asarray(0.0),
    }


def target_scale(targets: Numbers) -> None:
    """None: answers have no unit."""


def figures(characters: Numbers, targets: Numbers) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Exact match and F1 of each row, `(rows,) float64` both.

    Args:
        characters: the answers, as `records` gives them.
        targets: the right ones.
    """
    of_rows = zip(np.ascontiguousarray(characters, np.int32), np.ascontiguousarray(targets, np.int32), strict=True)
    found = [_figures(ours.tobytes(), theirs.tobytes(), theirs.shape[1]) for ours, theirs in of_rows]
    exact, f1 = np.asarray(found, np.float64).reshape(-1, 2).T
    return exact, f1


@functools.lru_cache(_REMEMBERED)
def _figures(answer: bytes, target: bytes, width: int) -> tuple[float, float]:
    rows = np.frombuffer(target, np.int32).reshape(-1, width)
    return best(_text(np.frombuffer(answer, np.int32)), tuple(_text(row[_HEAD:]) for row in rows if row[0] >= 0))


def _text(characters: Numbers) -> str:
    """The text of code points, padded with -1."""
    return characters[characters >= 0].astype("<u4").tobytes().decode("utf-32-le")


def pick_threshold(records: Outputs, targets: Numbers) -> float | None:
    """The `no_answer_threshold` with the best F1 on some rows; `None` where each of them has an answer, or none has.

    Between two margins it is the middle, and of equally good places the lowest.

    Args:
        records: of a model that always answers.
        targets: of as many rows.
    """
    has_answer = targets[:, 0, 0] >= 0
    if has_answer.all() or not has_answer.any():
        return None
    margins = records["margin"]
    order = np.argsort(margins, kind="stable")
    answered, empty = figures(records["answer"], targets)[1][order], (~has_answer)[order].astype(float)
    gained = np.concatenate([[0.0], np.cumsum(answered - empty)])  # by how many rows are answered
    edges = np.concatenate([[margins[order[0]] - 1], margins[order], [margins[order[-1]] + 1]])
    lows, highs = edges[:-1], edges[1:]
    gained[1:-1][lows[1:-1] == highs[1:-1]] = -np.inf  # rows of the same margin are not parted
    place = int(gained.argmax())
    return float((lows[place] + highs[place]) / 2)


def inside(text: str, start: int, end: int) -> tuple[int, int]:
    """A part of a text without white space at its ends, and with the marks that belong to its last character."""
    while end < len(text) and unicodedata.combining(text[end]):
        end += 1
    part = text[start:end]
    if part.strip():
        start += len(part) - len(part.lstrip())
        end -= len(part) - len(part.rstrip())
    return start, end
