"""`tledge run`: everything that a recipe asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tledge.cli import screen
from tledge.cli.places import recipe_of

RecipeArgument = Annotated[Path, typer.Argument(help="A recipe (YAML), or a run folder to go on with.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="The run folder; runs/NAME by default.")]


def command(
    recipe: RecipeArgument,
    overrides: screen.SetOption = None,
    out: OutOption = None,
    as_json: screen.JsonOption = False,
) -> None:
    """Run all stages of a recipe: data, train, export, quantize, bundle, bench, report.

    Run again, it goes on after the last whole stage, and training from its last checkpoint.
    """
    stages(recipe, overrides, out, as_json, until="report")


def stages(
    path: Path, overrides: list[str] | None, out: Path | None, as_json: bool, *, until: str, fp32_only: bool = False
) -> None:
    """Run a recipe's stages up to one of them and print where the results are."""
    recipe, folder = recipe_of(path, overrides or [], out)
    from tledge import pipeline, processes

    pipeline.run(recipe, folder, until=until, fp32_only=fp32_only, progress=screen.bars(), say=screen.say)
    if not processes.is_main():
        return
    facts = pipeline.summary(folder, until=until)
    if as_json:
        screen.as_json(facts)
        return
    for name, value in facts.items():
        typer.echo(f"{name:10} {value}")
