"""Parity: a graph and torch on the same inputs, alone and in a batch, padded and not, short and long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tledge.artifacts import ParityCase
from tledge.errors import ParityError
from tledge.evaluate import Run
from tledge.progress import Progress, silent

Array = npt.NDArray[Any]


class Encoder(Protocol):
    """Texts to input tensors, and random valid ones of an exact shape."""

    max_length: int

    def encode(self, values: Sequence[str]) -> dict[str, Array]: ...
    def dummy(self, batch: int, sequence: int, seed: int = 0) -> dict[str, Array]: ...


def cases(encoder: Encoder, texts: Sequence[str]) -> Iterator[tuple[str, dict[str, Array], bool]]:
    """Inputs to compare on: name, tensors, whether some row is padded.

    The lengths are 2, 3, an odd middle one and the longest that the model takes, each alone and in a batch of three
    without padding; then batches of real texts whose rows differ in length, and one row padded almost to the end.
    """
    longest = encoder.max_length
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
    side = slice(None, -used) if _pads_left(encoder, texts) else slice(used, None)
    padded["attention_mask"][0, side] = 0
    yield f"batch 2, length {longest}, one row padded beyond {used}", padded, True


def check(
    torch_run: Run,
    graph_run: Run,
    inputs: Sequence[tuple[str, dict[str, Array], bool]],
    decisions: Callable[[Mapping[str, Array]], Array],
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
        decisions: outputs to answers, as the task decides.
        atol: allowed absolute difference.
        rtol: allowed difference relative to torch's value.
        progress: shown by cases.
    """
    found = []
    with progress("Parity with torch", total=len(inputs)) as advance:
        for name, feeds, padded in inputs:
            expected, got = torch_run(feeds), graph_run(feeds)
            found.append(_compare(name, feeds, padded, expected, got, decisions, atol, rtol))
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


def _compare(
    name: str,
    feeds: Mapping[str, Array],
    padded: bool,
    expected: Mapping[str, Array],
    got: Mapping[str, Array],
    decisions: Callable[[Mapping[str, Array]], Array],
    atol: float,
    rtol: float,
) -> ParityCase:
    batch, sequence = next(iter(feeds.values())).shape
    worst, allowed, excess = 0.0, atol, -np.inf
    for output, reference in expected.items():
        if output not in got or got[output].shape != reference.shape:
            worst, allowed, excess = np.inf, atol, np.inf
            continue
        exact = reference.astype(np.float64)
        # What is not a finite number in either is beyond any limit.
        finite = np.isfinite(exact) & np.isfinite(got[output])
        difference = np.where(finite, np.abs(np.where(finite, got[output], 0) - np.where(finite, exact, 0)), np.inf)
        limit = atol + rtol * np.abs(np.where(finite, exact, 0))
        at = np.unravel_index(np.argmax(difference - limit), difference.shape)
        if difference[at] - limit[at] > excess:
            excess, allowed, worst = difference[at] - limit[at], float(limit[at]), float(difference[at])
    same = excess < np.inf and bool(np.array_equal(decisions(expected), decisions(got)))
    return ParityCase(name, batch, sequence, padded, worst, allowed, same, bool(excess <= 0))


def _pads_left(encoder: Encoder, texts: Sequence[str]) -> bool:
    mask = encoder.encode(["a", " ".join(texts)[:200] or "a b c d"])["attention_mask"]
    return bool(mask[0, 0] == 0)
