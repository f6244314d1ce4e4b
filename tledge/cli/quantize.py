"""`tledge quantize`: variants of the exported graph, and the one that ships."""

from __future__ import annotations

from typing import Annotated

import typer

from tledge.cli import screen
from tledge.cli.run import OutOption, RecipeArgument, stages


def command(
    run: RecipeArgument,
    scheme: Annotated[
        list[str] | None,
        typer.Option("--scheme", help="A scheme to try instead of the recipe's; repeatable."),
    ] = None,
    overrides: screen.SetOption = None,
    out: OutOption = None,
    as_json: screen.JsonOption = False,
) -> None:
    """Make the variants of a run's graph, score and time each, choose the fastest within the budget, and bundle.

    A variant that is slower than fp32 here, or worse than the budget allows, is never chosen.
    """
    chosen = [f"quantize.schemes=[{', '.join(scheme)}]"] if scheme else []
    stages(run, [*(overrides or []), *chosen], out, as_json, until="bundle")
