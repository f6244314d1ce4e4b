"""`tledge curve`: the metric over the number of labelled rows, and how many more to label."""

from __future__ import annotations

from typing import Annotated

import typer

from tledge import artifacts
from tledge.cli import screen
from tledge.cli.places import recipe_of
from tledge.cli.run import OutOption, RecipeArgument
from tledge.errors import InputError

PAGE = "curve.html"


def command(
    recipe: RecipeArgument,
    shots: Annotated[str, typer.Option("--shots", help="Rows of each label, separated by commas.")] = "1,2,4,8,16,64",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each, on rows drawn anew.")] = 10,
    overrides: screen.SetOption = None,
    out: OutOption = None,
    as_json: screen.JsonOption = False,
) -> None:
    """Train a recipe on a few rows of each label, again and again, and tell how many more to label.

    Every point is the mean over seeds with its 95 % interval, on the same test rows. Features of a frozen backbone are
    computed once for all points. What was measured is kept in RUN/curve, and the same command goes on from there.
    """
    counts = _counts(shots)
    found, folder = recipe_of(recipe, overrides or [], out)
    from tledge import pipeline
    from tledge.report import curve as page

    measured, place = pipeline.curve(found, folder, shots=counts, seeds=seeds, progress=screen.bars(), say=screen.say)
    (place / PAGE).write_text(page.html(measured), encoding="utf-8")
    if as_json:
        screen.as_json(artifacts.to_dict(measured) | {"answer": page.answer(measured)})
        return
    screen.table(page.HEADER, page.rows(measured))
    for sentence in page.answer(measured):
        typer.echo(sentence)
    typer.echo(f"{place / PAGE}")


def _counts(text: str) -> list[int]:
    """The numbers between commas, rising.

    Raises:
        InputError: one is no whole number of 1 or more.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise InputError(
            f"--shots: expected whole numbers of 1 or more with commas between, such as 1,2,4,8; got {text!r}"
        )
    return sorted({int(part) for part in parts})
