"""Parity: a graph and torch on the same inputs, alone and in a batch, ordinary and extreme."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge.artifacts import ParityCase
from tledge.errors import ParityError
from tledge.evaluate import Run
from tledge.inputs import Input
from tledge.progress import Progress, silent

Array = npt.NDArray[Any]


def cases(encoder: Input, values: Sequence[Any]) -> Iterator[tuple[str, dict[str, Array], bool]]:
    """Inputs to compare on: name, tensors, whether some row is padded.

    For texts the lengths are 2, 3, an odd middle one and the longest that the model takes, each alone and in a batch of
    three without padding; then batches of real texts whose rows differ in length, and one row padded almost to the end.

    For images: real ones alone and in one batch; random ones in batches of 1, 3 and 5; noise; and the ends of the
    range: all black, all white, and a board of both.

    Args:
        encoder: the model's preprocessing, not that of a graph with preprocessing in it.
        values: texts or images of the user's; as many as there are give the batch of real ones.
    """
    return _image_cases(encoder, values) if encoder.max_length is None else _text_cases(encoder, values)


def _text_cases(encoder: Input, texts: Sequence[str]) -> Iterator[tuple[str, dict[str, Array], bool]]:
    longest = encoder.max_length
    assert longest is not None
    for length in sorted({min(n, longest) for n in (2, 3, 17, longest // 2 + 1, longest)}):
        for batch in (1, 3):
            yield (
                f"random tokens, batch {batch}, length {length}",
                encoder.dummy(batch, length, seed=length),
                False,
            )
    for i, text in enumerate(texts[:3]):
        yield f"text {i + 1} alone", encoder.encode([text]), False
    if len(texts) > 1:
        batch_of_texts = encoder.encode(list(texts))
        yield f"{len(texts)} texts in one batch", batch_of_texts, not batch_of_texts["attention_mask"].all()
    padded = encoder.dummy(2, longest, seed=1)
    used = max(1, longest // 8)
    side = slice(None, -used) if encoder.pads_left else slice(used, None)
    padded["attention_mask"][0, side] = 0
    yield f"batch 2, length {longest}, one row padded beyond {used}", padded, True


def _image_cases(encoder: Input, images: Sequence[Any]) -> Iterator[tuple[str, dict[str, Array], bool]]:
    for i, image in enumerate(images[:3]):
        yield f"image {i + 1} alone", encoder.encode([image]), False
    if len(images) > 1:
        yield f"{len(images)} images in one batch", encoder.encode(list(images)), False
    for batch in (1, 3, 5):
        yield f"random pictures, batch {batch}", encoder.dummy(batch, seed=batch), False
    height, width = encoder.dummy(1)["pixel_values"].shape[2:]
    shape = (height, width, 3)
    extremes = {
        "noise": np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8),
        "all black": np.zeros(shape, np.uint8),
        "all white": np.full(shape, 255, np.uint8),
        "black and white squares": np.tile((np.indices(shape[:2]).sum(0) // 8 % 2 * 255)[..., None], 3).astype(
            np.uint8
        ),
    }
    for name, image in extremes.items():
        yield name, encoder.encode([image]), False
    yield "noise, black, white and squares in one batch", encoder.encode(list(extremes.values())), False


def check(
    torch_run: Run,
    graph_run: Run,
    inputs: Sequence[tuple[str, dict[str, Array], bool]],
    predictions: Callable[[Mapping[str, Array]], Array | None],
    *,
    atol: float,
    rtol: float,
    progress: Progress = silent,
) -> tuple[ParityCase, ...]:
    """Compare on every case; nothing is raised, `require` judges.

    Args:
        torch_run: the checkpoint in torch eager.
        graph_run: the graph in onnxruntime.
        inputs: what `cases` gives.
        predictions: outputs to answers, as the task decides; it gives `None` where a task has none.
        atol: allowed absolute difference.
        rtol: allowed difference relative to torch's value.
        progress: shown by cases.
    """
    found = []
    with progress("Parity with torch", total=len(inputs)) as advance:
        for name, feeds, padded in inputs:
            expected, got = torch_run(feeds), graph_run(feeds)
            found.append(_compare(name, feeds, padded, expected, got, predictions, atol, rtol))
            advance(1)
    return tuple(found)


def require(found: Sequence[ParityCase], reference_outputs: Sequence[Array], *, where: str) -> None:
    """Stop unless every case passed and the comparison could have failed.

    Args:
        found: what `check` gave.
        reference_outputs: torch's outputs on different rows, `(rows, ...)` each.
        where: the file that holds all cases, for the message.

    Raises:
        ParityError: a case is beyond its tolerance, or torch gives every row the same output, so that a graph which
            ignores its input would pass.
    """
    failed = [case for case in found if not case.passed]
    if failed:
        worst = max(failed, key=lambda case: case.max_abs_diff / case.allowed)
        raise ParityError(
            f"parity: the graph differs from torch by {worst.max_abs_diff:.3g} at {worst.name!r} (allowed "
            f"{worst.allowed:.3g}); {len(failed)} of {len(found)} cases failed; see {where}; look at the operators "
            "that export.log names, try another export.opset, or set export.atol if the difference is harmless"
        )
    spread = max(float(np.ptp(output, axis=0).max()) for output in reference_outputs)
    allowed = min(case.allowed for case in found)
    if not spread > allowed:
        raise ParityError(
            f"parity: torch's outputs differ by {spread:.1g} from row to row, no more than the {allowed:.1g} that the "
            "graph may be off, so a comparison proves nothing; expected a trained checkpoint: look at the training "
            "curve, or set a smaller export.atol"
        )


def difference(expected: Array, got: Array | None, atol: float, rtol: float) -> tuple[float, float, float]:
    """At the element that is nearest to its limit or furthest beyond it: excess over the limit, difference, limit.

    All are infinite, but for the limit, where there is nothing of the same shape to compare with.
    """
    if got is None or got.shape != expected.shape:
        return np.inf, np.inf, atol
    exact = expected.astype(np.float64)
    # What is not a finite number in either is beyond any limit.
    finite = np.isfinite(exact) & np.isfinite(got)
    off = np.where(finite, np.abs(np.where(finite, got, 0) - np.where(finite, exact, 0)), np.inf)
    limit = atol + rtol * np.abs(np.where(finite, exact, 0))
    at = np.unravel_index(np.argmax(off - limit), off.shape)
    return float(off[at] - limit[at]), float(off[at]), float(limit[at])


def _compare(
    name: str,
    feeds: Mapping[str, Array],
    padded: bool,
    expected: Mapping[str, Array],
    got: Mapping[str, Array],
    predictions: Callable[[Mapping[str, Array]], Array | None],
    atol: float,
    rtol: float,
) -> ParityCase:
    shape = next(iter(feeds.values())).shape
    worst, allowed, excess = 0.0, atol, -np.inf
    for output, reference in expected.items():
        found = difference(reference, got.get(output), atol, rtol)
        if found[0] > excess:
            excess, worst, allowed = found
    answers, same = predictions(expected), None
    if answers is not None:
        same = bool(excess < np.inf) and bool(np.array_equal(answers, np.asarray(predictions(got))))
    sequence = shape[1] if len(shape) == 2 else None  # images have no length
    return ParityCase(name, shape[0], sequence, padded, worst, allowed, same, bool(excess <= 0))
