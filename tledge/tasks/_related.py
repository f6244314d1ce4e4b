"""Rows that say which texts are alike, in the forms that files have them, and how vectors of their texts are judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import metrics
from tledge.errors import DataError
from tledge.tasks._cells import is_empty, numbered, renamed
from tledge.tasks._regression import parse_label as parse_number
from tledge.tasks._single_label import parse_label as parse_name

Array = npt.NDArray[Any]
Records = dict[str, Array]

QUERY, DOCUMENT = "query", "document"
"""Names of the prompts of a text that is looked for with, and of one that is to be found."""
RECALL_AT = (1, 5, 10)
"""How many of the nearest documents recall looks at."""
CELLS = 4_000_000
"""Cosines that are computed together: 16 MB."""
COLUMNS = ("text", "text_pair", "negative", "label")
"""The columns that rows may have; which of them there are says what the rows are."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a row holds: its texts, and what is told of them. The names in capitals mean what they do of a task.

    `name` says it in words, `losses` are those that such rows can train with, the usual one first, and `metrics` those
    that they can be judged by.
    """

    name: str
    INPUT: str
    INPUT_COLUMNS: tuple[str, ...]
    LABELS: str
    LABEL_COLUMN: str
    losses: tuple[str, ...]
    metrics: tuple[str, ...]
    prompts: tuple[str, ...] = ()
    TAKES_FLAGS: bool = False

    @property
    def NEEDS_LABEL(self) -> bool:  # noqa: N802 - as of a task
        """Whether a row without a label is broken."""
        return bool(self.LABEL_COLUMN)

    @property
    def n_texts(self) -> int:
        """How many vectors a row is judged by; a text alone by those of its halves."""
        return max(2, len(self.INPUT_COLUMNS)) if self.LABELS != "one_label" else 1

    @property
    def LEAST_LABELS(self) -> int:  # noqa: N802 - as of a task
        """How many labels there must be in the rows."""
        return 2 if self.LABELS == "one_label" else 0

    def parse_label(
        self,
        cell: object,
        separator: str,
        decimal: str,
        given: Sequence[object] = (),  # noqa: ARG002
    ) -> tuple[str, ...]:
        """A raw cell to a tuple of one name, or of one number as text; empty where there is none."""
        if not self.LABEL_COLUMN or is_empty(cell):
            return ()
        return (parse_number if self.LABELS == "number" else parse_name)(cell, separator, decimal)

    def renamed(self, label: Sequence[str], names: Mapping[str, str]) -> tuple[str, ...]:
        """The same label with another name, where that has one."""
        return renamed(label, names) if self.LABELS == "one_label" else tuple(label)

    def label_names(self, label: Sequence[str]) -> tuple[str, ...]:
        """The name of the label of a row; none of a number."""
        return tuple(label) if self.LABELS == "one_label" else ()

    def numbered(self, label: Sequence[str], names: Iterable[str]) -> list[Any]:
        """The place of the label of a row among all of them, or its number."""
        return [float(cell) for cell in label] if self.LABELS == "number" else numbered(label, names)

    def judged(self, cells: Sequence[str]) -> tuple[str, ...]:
        """The texts of a row whose vectors are compared."""
        return halves(cells[0]) if self is TEXTS else tuple(cells)

    def trained(self, cells: Sequence[str]) -> tuple[str, ...]:
        """The texts of a row that train; of a text alone twice the same, which dropout makes two vectors of."""
        return (cells[0], cells[0]) if self is TEXTS else tuple(cells)

    def prompted(self, texts: Sequence[str], encoder: Any) -> tuple[str, ...]:
        """The texts of a row with the prompts of their places, where the model has all of these."""
        if not self.is_prompted(encoder):
            return tuple(texts)
        return tuple(encoder.prompted(text, name) for text, name in zip(texts, self.prompts, strict=True))

    def is_prompted(self, encoder: Any) -> bool:
        """Whether the model has a prompt for each place of a row's texts."""
        return bool(self.prompts) and set(self.prompts) <= set(encoder.prompts)

    @property
    def has_places(self) -> bool:
        """Whether texts of a row are to be found among all texts."""
        return "mrr" in self.metrics

    def targets(self, texts: Sequence[tuple[str, ...]], labels: Sequence[Sequence[Any]]) -> Array:
        """What losses and metrics take.

        The scores, `(rows,) float32`, or a number for each label, `(rows,) int64`; or a number for each text that is
        the same for the same text, `(rows, texts) int64`.
        """
        if self.LABELS == "number":
            return np.asarray([float(label[0]) for label in labels], dtype=np.float32)
        if self.LABELS == "one_label":
            return np.unique(np.asarray([str(label[0]) for label in labels]), return_inverse=True)[1].astype(np.int64)
        numbers: dict[str, int] = {}
        found = [[numbers.setdefault(" ".join(text.split()), len(numbers)) for text in row] for row in texts]
        return np.asarray(found, dtype=np.int64)


_ALWAYS = ("spearman", "pearson")
_FOUND = (*_ALWAYS, "mrr", *(f"recall_at_{k}" for k in RECALL_AT))
SCORED = Form(
    name="pairs with a score",
    INPUT="text_pair",
    INPUT_COLUMNS=("text", "text_pair"),
    LABELS="number",
    LABEL_COLUMN="label",
    losses=("cosent", "cosine_regression"),
    metrics=_ALWAYS,
)
PAIRS = Form(
    name="pairs of texts that are alike",
    INPUT="text_pair",
    INPUT_COLUMNS=("text", "text_pair"),
    LABELS="no_label",
    LABEL_COLUMN="",
    losses=("multiple_negatives",),
    metrics=_FOUND,
    prompts=(QUERY, DOCUMENT),
)
TRIPLES = Form(
    name="triples",
    INPUT="text_triple",
    INPUT_COLUMNS=("text", "text_pair", "negative"),
    LABELS="no_label",
    LABEL_COLUMN="",
    losses=("multiple_negatives", "triplet"),
    metrics=(*_FOUND, "triplet_accuracy"),
    prompts=(QUERY, DOCUMENT, DOCUMENT),
)
LABELLED = Form(
    name="texts with a label",
    INPUT="text",
    INPUT_COLUMNS=("text",),
    LABELS="one_label",
    LABEL_COLUMN="label",
    losses=("supervised_contrastive",),
    metrics=(*_ALWAYS, "nearest_accuracy"),
)
TEXTS = Form(
    name="texts alone",
    INPUT="text",
    INPUT_COLUMNS=("text",),
    LABELS="no_label",
    LABEL_COLUMN="",
    losses=("multiple_negatives",),
    metrics=_FOUND,
)


def form_of(columns: Sequence[str]) -> Form:
    """What rows with these of `COLUMNS` are.

    Raises:
        DataError: they are none that can be learnt from.
    """
    if "negative" in columns:
        if "text_pair" not in columns:
            raise DataError(
                "there is a column 'negative' but no 'text_pair'; expected triples of text, text_pair (alike) and "
                "negative (not alike): set data.columns.text_pair"
            )
        return TRIPLES
    if "text_pair" in columns:
        return SCORED if "label" in columns else PAIRS
    return LABELLED if "label" in columns else TEXTS


def halves(text: str) -> tuple[str, str]:
    """A text's first words and the others, or where it has one word, its first characters and the others."""
    words = text.split()
    if len(words) > 1:
        return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])
    middle = (len(text) + 1) // 2
    return text[:middle], text[middle:] or text


def cosines_of(vectors: Array) -> Array:
    """Vectors `(rows, size)` scaled to length 1, float32; one of zeros stays so."""
    vectors = vectors.astype(np.float32)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.finfo(np.float32).tiny))


def judged(vectors: Array, targets: Array) -> Records:
    """Of each row what metrics need.

    There are `cosines` of pairs of texts and their `truth`, `(rows, pairs)`: the row's score; or 1 for two texts that
    are alike, and 0 for two of different rows; `known` says where there is such a pair. Of rows whose texts are to be
    found among all of them there are the place of each, `ranks`, the place of the first text that answers the same
    query, `first_ranks`, and the query's part in the row, `shares`, `(rows,)`.

    Args:
        vectors: of the texts of one row after another, `(rows * texts, size)`, and then of further texts, among which
            those of the rows are to be found.
        targets: what `Form.targets` gave.
    """
    vectors = cosines_of(vectors)
    if targets.dtype.kind == "f":
        first, second = vectors[0::2], vectors[1::2]
        return _pairs([_dot(first, second)], [targets.astype(np.float32)])
    if targets.ndim == 1:
        return _labelled(vectors, targets)
    n_rows, n_texts = targets.shape
    of_rows, others = vectors[: n_rows * n_texts].reshape(n_rows, n_texts, -1), vectors[n_rows * n_texts :]
    queries, found = of_rows[:, 0], of_rows[:, 1]
    if n_texts > 2:
        unlike, known = of_rows[:, 2], np.ones(n_rows, dtype=bool)
    else:
        partner = _unlike(targets)
        unlike, known = found[partner], partner != np.arange(n_rows)
    alike, apart = _dot(queries, found), _dot(queries, unlike)
    ones = np.ones(n_rows, dtype=np.float32)
    records = _pairs([alike, apart], [ones, 0 * ones], [ones > 0, known])
    records |= _places(of_rows, others, targets)
    return records if n_texts == 2 else records | {"wins": (alike > apart).astype(np.float32)}


def scores(records: Mapping[str, Array]) -> dict[str, float]:
    """The metrics that records give."""
    known = records["known"].astype(bool)
    cosines, truth = records["cosines"][known].astype(np.float64), records["truth"][known].astype(np.float64)
    found = {"spearman": metrics.spearman(cosines, truth), "pearson": metrics.pearson(cosines, truth)}
    if "ranks" in records:
        shares = records["shares"].astype(np.float64)
        found["mrr"] = float(np.average(1 / records["first_ranks"], weights=shares))
        for k in RECALL_AT:
            found[f"recall_at_{k}"] = float(np.average(records["ranks"] <= k, weights=shares))
    for name, metric in (("wins", "triplet_accuracy"), ("nearest", "nearest_accuracy")):
        if name in records:
            found[metric] = float(np.mean(records[name], dtype=np.float64))
    return metrics.defined(found)


def _dot(a: Array, b: Array) -> Array:
    return np.asarray(np.einsum("rd,rd->r", a, b))


def _pairs(cosines: Sequence[Array], truth: Sequence[Array], known: Sequence[Array] | None = None) -> Records:
    stacked = np.stack(cosines, axis=1)
    all_known = np.ones(stacked.shape, dtype=bool) if known is None else np.stack(known, axis=1)
    return {"cosines": stacked, "truth": np.stack(truth, axis=1), "known": all_known}


def _unlike(targets: Array) -> Array:
    """For each row the next one whose second text answers another query, `(rows,)`; itself where there is none."""
    answers: dict[int, set[int]] = {}
    for query, found, *_ in targets.tolist():
        answers.setdefault(query, set()).add(found)
    n_rows, documents = len(targets), targets[:, 1].tolist()
    return np.asarray(
        [
            next((j % n_rows for j in range(i + 1, i + n_rows) if documents[j % n_rows] not in answers[query]), i)
            for i, query in enumerate(targets[:, 0].tolist())
        ]
    )


def _labelled(vectors: Array, labels: Array) -> Records:
    n_rows = len(labels)
    order = np.argsort(labels, kind="stable")
    same = np.empty(n_rows, dtype=np.int64)
    for of in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        same[of] = np.roll(of, -1)
    other = _unlike(np.stack([labels, labels], axis=1))
    rows, ones = np.arange(n_rows), np.ones(n_rows, dtype=np.float32)
    records = _pairs(
        [_dot(vectors, vectors[same]), _dot(vectors, vectors[other])],
        [ones, 0 * ones],
        [same != rows, other != rows],
    )
    nearest = np.empty(n_rows, dtype=np.int64)
    for part, near in _near(vectors, vectors):
        near[np.arange(len(part)), part] = -np.inf
        nearest[part] = near.argmax(axis=1)
    return records | {"nearest": (labels[nearest] == labels).astype(np.float32)}


def _places(of_rows: Array, others: Array, targets: Array) -> Records:
    """Where each row's second text stands among all texts but the queries, by the cosine with the row's first."""
    n_rows = len(targets)
    _, first, place = np.unique(targets[:, 1:].reshape(-1), return_index=True, return_inverse=True)
    documents = np.concatenate([of_rows[:, 1:].reshape(-1, of_rows.shape[-1])[first], others])
    own = place.reshape(n_rows, -1)[:, 0]
    ranks = np.empty(n_rows, dtype=np.int64)
    for part, near in _near(of_rows[:, 0], documents):
        ranks[part] = 1 + (near > near[np.arange(len(part)), own[part]][:, None]).sum(axis=1)
    _, query, counts = np.unique(targets[:, 0], return_inverse=True, return_counts=True)
    best = np.full(len(counts), np.iinfo(np.int64).max)
    np.minimum.at(best, query, ranks)
    return {"ranks": ranks, "first_ranks": best[query], "shares": (1 / counts[query]).astype(np.float64)}


def _near(queries: Array, documents: Array) -> Any:
    """Parts of the queries, as row numbers, each with its cosines, `(part, documents)`."""
    step = max(1, CELLS // max(1, len(documents)))
    for start in range(0, len(queries), step):
        part = np.arange(start, min(start + step, len(queries)))
        yield part, queries[part] @ documents.T
