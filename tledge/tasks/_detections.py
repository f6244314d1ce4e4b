"""What a graph must give to be a detector's, whether it suppresses boxes itself or leaves that to the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tledge.errors import BundleError
from tledge.tasks import Outputs

KEEP_FLOAT = ("first", "none", "ends", "worst")


def require_outputs(outputs: Outputs, labels: Sequence[str], rows: int) -> None:
    """Nothing, where outputs are detections or candidates of so many images.

    Args:
        outputs: of a graph: `boxes (rows, n, 4)`, and `scores (rows, n)` and `labels (rows, n)`, or, before
            suppression, `scores (rows, labels, n)`.
        labels: their names.
        rows: the number of images.

    Raises:
        BundleError: they are no such, or hold what is no finite number or no label.
    """
    told = "labels" in outputs
    _require(outputs, "boxes", "f", (rows, None, 4))
    n = outputs["boxes"].shape[1]
    _require(outputs, "scores", "f", (rows, n) if told else (rows, len(labels), n))
    if told:
        _require(outputs, "labels", "i", (rows, n))
        least, most = (int(each(outputs["labels"], initial=-1)) for each in (np.min, np.max))
        if least < -1 or most >= len(labels):
            raise BundleError(
                f"the graph gives the label {least if least < -1 else most}, but there are {len(labels)} of them; "
                "check the bundle with: tledge verify"
            )


def _require(outputs: Outputs, name: str, kind: str, shape: tuple[int | None, ...]) -> None:
    found = outputs.get(name)
    fits = found is not None and found.ndim == len(shape) and found.dtype.kind == kind
    if found is None or not fits or any(b not in (None, a) for a, b in zip(found.shape, shape, strict=True)):
        got = "none" if found is None else f"{found.dtype} {found.shape}"
        expected = str(shape).replace("None", "any")
        raise BundleError(f"the graph must give {name} {expected}, got {got}; check the bundle with: tledge verify")
    if kind == "f" and not np.isfinite(found).all():
        raise BundleError(f"the graph gave {name} that are no finite numbers; check the bundle with: tledge verify")
