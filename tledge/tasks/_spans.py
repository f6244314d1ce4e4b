"""What all tasks share that mark spans of a text, each with one label: named entities, parts of an address, and so on.

A span is a label, the code point that it begins at and the one behind its end, so that `text[start:end]` is its text.
Spans of one text do not overlap. A model gives each word one of the tags `O`, `B-LABEL` and `I-LABEL` (IOB2, Tjong Kim
Sang and Veenstra 1999); a span is a word with `B` and those with the same label's `I` that follow, and an `I` that
continues nothing begins one too.

Targets, and the records of what a model found, are `(rows, spans, 3) int64`: the number of the label, start and end,
padded with -1.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import metrics
from tledge.inputs._windows import Cut, stacked
from tledge.tasks import HIGHER, Outputs, _cells
from tledge.tasks._span_cells import Span, spans_in

__all__ = [
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
    "PROBLEM_TYPE",
    "TAKES_FLAGS",
    "agree",
    "decode",
    "label_names",
    "most_frequent",
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

LABELS = "spans"
LABEL_COLUMN = "label"
TAKES_FLAGS = False
MIXES = False
N_LABELS = range(1, 1 << 20)
LEAST_LABELS = 1
NEEDS_LABEL = False
METRIC = "f1"
METRICS = {"f1": HIGHER, "precision": HIGHER, "recall": HIGHER, "macro_f1": HIGHER, "overlap_f1": HIGHER}
LOSS = "cross_entropy"
LOSSES = ("cross_entropy",)
PROBLEM_TYPE = "token_classification"

IGNORED = -100
"""The label of a token that no loss counts."""

Numbers = npt.NDArray[np.int64]


def parse_label(
    cell: object,
    separator: str,  # noqa: ARG001
    decimal: str,  # noqa: ARG001
    given: Sequence[object] = (),
) -> tuple[Span, ...]:
    """The spans in a raw cell, as `tledge.tasks._span_cells.spans_in` reads them.

    Raises:
        ValueError: the cell holds something else; the message says what was expected.
    """
    return spans_in(cell, given)


def renamed(label: Sequence[Span], names: Mapping[str, str]) -> tuple[Span, ...]:
    """The same spans with other names of labels."""
    return tuple(span._replace(label=names.get(span.label, span.label)) for span in label)


def label_names(label: Sequence[Span]) -> tuple[str, ...]:
    """The names of the labels of a row's spans, each once."""
    return tuple(dict.fromkeys(span.label for span in label))


def numbered(label: Sequence[Span], names: Iterable[str]) -> list[int]:
    """For each span the place of its label among all of them, its start and its end, one behind the other.

    Raises:
        ValueError: a label is not among them; the message is its name.
    """
    places = _cells.numbered([span.label for span in label], names)
    return [number for place, span in zip(places, label, strict=True) for number in (place, span.start, span.end)]


def targets(labels: Sequence[Sequence[int]], n_labels: int) -> Numbers:
    """The spans of rows, `(rows, spans, 3) int64`, from what `numbered` gives of each."""
    rows = [np.asarray(row, np.int64).reshape(-1, 3) for row in labels]
    assert all(row[:, 0].max(initial=-1) < n_labels for row in rows)
    return _padded(rows)


def output_names(labels: Sequence[str]) -> tuple[str, ...]:
    """The tags: `O`, and `B-LABEL` and `I-LABEL` of each label."""
    return ("O", *(f"{kind}-{label}" for label in labels for kind in "BI"))


def align(target: Numbers, cut: Cut, *, tagged_tokens: str, aggregation: str) -> list[Numbers]:
    """The tags of the tokens of each window of a text, -100 on those that no loss counts.

    A word belongs to the span that it shares a character with, the first one if there are several.

    Args:
        target: its spans, `(spans, 3) int64`, padded with -1.
        cut: its windows.
        tagged_tokens: whether the `first` token of a word counts alone, or `all` do.
        aggregation: how a word's tokens answer together. Where each is a word of its own (`simple`), those behind the
            first one of a word that begins a span continue it; else all have the word's tag.
    """
    tags = np.zeros(len(cut.words), np.int64)
    for label, start, end in target[target[:, 0] >= 0]:
        inside = (cut.offsets[:, 0] < end) & (cut.offsets[:, 1] > start) & (tags == 0)
        words = cut.words[inside]
        if words.size:
            tags[np.isin(cut.words, words)] = 2 + 2 * label
            tags[cut.words == words[0]] = 1 + 2 * label
    behind = np.diff(cut.words, prepend=-2) == 0
    if tagged_tokens == "first":
        tags[behind] = IGNORED
    elif aggregation == "simple":
        tags[behind] += tags[behind] % 2  # B to I
    found = []
    for window in range(len(cut)):
        places, tokens = cut.inside(window)
        row = np.full(len(cut.ids[window]), IGNORED, np.int64)
        row[places] = tags[tokens]
        found.append(row)
    return found


def decode(outputs: Outputs, labels: Sequence[str]) -> list[dict[str, Any]]:
    """One answer a row from what `WordsInput.joined` gives: its spans in the order of the text.

    Each has `label`, `text`, `start`, `end` and `score`, the mean of its words' probabilities.
    """
    rows = zip(outputs["values"], outputs["probabilities"], outputs["offsets"], strict=True)
    return [
        {
            "spans": [
                {
                    "label": labels[label],
                    "text": text[start:end],
                    "start": start,
                    "end": end,
                    "score": score,
                }
                for label, start, end, score in _found(text, probabilities, offsets)
            ]
        }
        for text, probabilities, offsets in rows
    ]


def records(outputs: Outputs, inputs: Outputs) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG001
    """The `spans`, and their `scores`, `(rows, spans) float32`, padded with -1."""
    rows = [
        list(_found(text, probabilities, offsets))
        for text, probabilities, offsets in zip(
            outputs["values"], outputs["probabilities"], outputs["offsets"], strict=True
        )
    ]
    spans = _padded([np.asarray([span[:3] for span in row], np.int64).reshape(-1, 3) for row in rows])
    scores = np.full(spans.shape[:2], -1, np.float32)
    for target, row in zip(scores, rows, strict=True):
        target[: len(row)] = [span[3] for span in row]
    return {"spans": spans, "scores": scores}


def predictions(records: Outputs) -> Numbers:
    """The spans of each row; or of a model's own outputs, `logits (rows, tokens, tags)`, the tag of each token."""
    if "logits" in records:
        return np.asarray(records["logits"].argmax(axis=-1), np.int64)
    return np.asarray(records["spans"])


def agree(ours: Outputs, theirs: Outputs) -> npt.NDArray[np.bool_]:
    """Whether both mark the same spans of a row, `(rows,) bool`."""
    most = max(ours["spans"].shape[1], theirs["spans"].shape[1])
    a, b = (
        np.pad(each["spans"], [(0, 0), (0, most - each["spans"].shape[1]), (0, 0)], constant_values=-1)
        for each in (ours, theirs)
    )
    return np.asarray((a == b).all(axis=(1, 2)))


def score(records: Outputs, targets: Numbers) -> dict[str, float]:
    """Precision, recall and F1 over the spans of all rows, the mean F1 of the labels, and the F1 of overlapping spans.

    A span is right where label, start and end are (as in CoNLL 2003's evaluation); for `overlap_f1` where one of the
    same label shares a character with it.
    """
    spans = records["spans"]
    hits, given, true = counts(spans, targets)
    labels = np.flatnonzero(given + true)
    near, near_true = overlaps(spans, targets)
    return metrics.defined(
        {
            "f1": _f1(hits.sum(), given.sum(), hits.sum(), true.sum()),
            "precision": _share(hits.sum(), given.sum()),
            "recall": _share(hits.sum(), true.sum()),
            "macro_f1": float(np.mean([_f1(hits[i], given[i], hits[i], true[i]) for i in labels] or [np.nan])),
            "overlap_f1": _f1(near, given.sum(), near_true, true.sum()),
        }
    )


def most_frequent(train: Numbers, n_labels: int) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG001
    """The records of a row without any span."""
    return {"spans": np.full((1, 3), -1, np.int64), "scores": np.full(1, -1, np.float32)}


def target_scale(targets: Numbers) -> None:
    """None: labels have no unit."""


def counts(spans: Numbers, targets: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """By label the spans that are right, those that were given and those that there are: `(labels,) int64` each."""
    right = (spans[:, :, None] == targets[:, None]).all(axis=-1) & (spans[:, :, None, 0] >= 0)
    n_labels = 1 + max(int(spans[..., 0].max(initial=-1)), int(targets[..., 0].max(initial=-1)))
    hit, given, true = (
        np.bincount(numbers[numbers >= 0], minlength=n_labels)
        for numbers in (spans[right.any(axis=2)][:, 0], spans[..., 0], targets[..., 0])
    )
    return hit, given, true


def overlaps(spans: Numbers, targets: Numbers) -> tuple[int, int]:
    """How many given spans share a character with a true one of their label, and how many true ones with a given."""
    ours, theirs = spans[:, :, None], targets[:, None]
    near = (ours[..., 0] == theirs[..., 0]) & (ours[..., 1] < theirs[..., 2]) & (theirs[..., 1] < ours[..., 2])
    near &= ours[..., 0] >= 0
    return int(near.any(axis=2).sum()), int(near.any(axis=1).sum())


def _found(text: str, probabilities: npt.NDArray[Any], offsets: Numbers) -> Iterator[tuple[int, int, int, float]]:
    """Label number, start, end and score of each span of a text, from its words.

    A span ends behind the marks that belong to its last character, and begins behind the span before it.
    """
    behind = 0
    for label, first, last, scores in _runs(probabilities, np.flatnonzero(offsets[:, 1] > offsets[:, 0])):
        start, end = max(behind, int(offsets[first, 0])), int(offsets[last, 1])
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1
        inside = text[start:end]
        if inside.strip():
            start += len(inside) - len(inside.lstrip())
            end -= len(inside) - len(inside.rstrip())
        if start < end:
            yield label, start, end, float(np.mean(scores))
            behind = end


def _runs(probabilities: npt.NDArray[Any], words: Numbers) -> Iterator[tuple[int, int, int, list[float]]]:
    """Label number, first word, last word and the words' scores of each run of tags that form a span."""
    run: list[Any] = []
    for word in words:
        tag = int(probabilities[word].argmax())
        label = (tag - 1) // 2
        goes_on = bool(run) and tag > 0 and not tag % 2 and label == run[0]
        if run and not goes_on:
            yield run[0], run[1], run[2], run[3]
            run = []
        score = float(probabilities[word, tag])
        if goes_on:
            run[2] = word
            run[3].append(score)
        elif tag > 0:
            run = [label, word, word, [score]]
    if run:
        yield run[0], run[1], run[2], run[3]


def _padded(rows: Sequence[Numbers]) -> Numbers:
    """Spans of rows as one array, with room for one at least."""
    result = stacked([row if len(row) else np.full((1, 3), -1, np.int64) for row in rows], -1)
    return result if rows else np.full((0, 1, 3), -1, np.int64)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _f1(hits: float, given: float, hits_true: float, true: float) -> float:
    """The harmonic mean of precision and recall, 0 where nothing is right; not defined where there are no spans."""
    if not given + true:
        return float("nan")
    precision, recall = hits / given if given else 0.0, hits_true / true if true else 0.0
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0
