"""What a gate on another machine takes along: the bundles with their runs' answers, the budget, labelled rows."""

from __future__ import annotations

from pathlib import Path

from tledge import answers
from tledge import bundle as bundles
from tledge.device.contents import Part
from tledge.errors import DataError
from tledge.gate.budget import Budget
from tledge.gate.measure import QUALITY, labelled_rows
from tledge.gate.side import Side, check_comparable, open_side


def bundle(path: Path) -> Path | Part:
    """A bundle, or of a run folder the bundle and what its variants answered.

    Raises:
        BundleError: it is neither.
    """
    folder = bundles.find(path)
    if folder == path:
        return path
    stored = path / "quantize" / answers.FILE
    inside = [folder, *([stored] if stored.exists() else [])]
    return Part(path, tuple(each.relative_to(path).as_posix() for each in inside))


def arguments(
    path: Path, budget_file: Path, budget: Budget, *, against: Path | None, rows: Path | None
) -> list[str | Path | Part]:
    """The options of the gate there that name files; mistakes in those are found here, before anything is sent.

    Args:
        path: A bundle or a run folder.
        budget_file: The file of the budget.
        budget: What it says.
        against: The bundle or run folder to compare with.
        rows: Labelled rows, instead of those of the budget.

    Raises:
        BundleError: a folder is no bundle, or is damaged.
        InputError: the bundles cannot be compared.
        DataError: the rows cannot be read, or an image is not below the folder of their file.
    """
    new = open_side(path)
    found: list[str | Path | Part] = ["--budget", budget_file]
    if against is not None:
        check_comparable(new, open_side(against))
        found += ["--against", bundle(against)]
    file = _rows(new, budget, rows)
    return found if file is None else [*found, "--rows", file]


def note(path: Path, budget: Budget, rows: Path | None) -> str | None:
    """What to know of the metrics of a gate on a device that answers no rows itself; `None` where there is nothing."""
    if not any(limit in QUALITY for scope in budget.scopes for limit in scope.limits):
        return None
    side = open_side(path)
    if labelled_rows(side, budget, rows) is not None:
        return None
    cure = "" if side.manifest.generation is not None else "; give --rows FILE to have the device answer"
    return f"the metric is that of answers which the run stored where it was made{cure}"


def _rows(new: Side, budget: Budget, given: Path | None) -> Path | Part | None:
    """The file of labelled rows with the images that it names, where any limit asks for rows."""
    labelled = labelled_rows(new, budget, given)
    if labelled is None:
        return None
    file = given if given is not None or budget.evaluation is None else budget.evaluation.rows
    assert file is not None
    images = [value for value in labelled.values if isinstance(value, Path)]
    return Part(file.parent, (file.name, *(_inside(each, file) for each in images)), file.name) if images else file


def _inside(image: Path, file: Path) -> str:
    """An image's name in the folder of the file that names it.

    Raises:
        DataError: it lies elsewhere.
    """
    within = image.relative_to(file.parent) if image.is_relative_to(file.parent) else None
    if within is None or ".." in within.parts:
        raise DataError(
            f"{file}: the image {image} is not below the folder of the file, which is what is sent to a device; "
            "expected paths below it, such as images/1.jpg: move the images there"
        )
    return within.as_posix()
