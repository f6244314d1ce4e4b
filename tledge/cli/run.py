"""`tledge run`: everything that a recipe asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tledge import run_folder
from tledge.artifacts import read_json, write_json
from tledge.cli import screen
from tledge.cli.places import recipe_of
from tledge.digest import sha256
from tledge.errors import RecipeError

RecipeArgument = Annotated[Path, typer.Argument(help="A recipe (YAML), or a run folder to go on with.")]
RecipeOrNone = Annotated[
    Path | None, typer.Argument(help="A recipe (YAML), or a run folder to go on with; none with --data.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="The run folder; runs/NAME by default.")]
DataOption = Annotated[
    str | None,
    typer.Option("--data", help="Instead of a recipe: labelled data, as `tledge init` takes them, such as ./photos."),
]
BackboneOption = Annotated[
    str | None, typer.Option("--backbone", help="With --data: the backbone; by default a small one.")
]
TaskOption = Annotated[
    str | None, typer.Option("--task", help="With --data: the task; by default what the data look like.")
]


def command(
    recipe: RecipeOrNone = None,
    data: DataOption = None,
    backbone: BackboneOption = None,
    task: TaskOption = None,
    overrides: screen.SetOption = None,
    out: OutOption = None,
    as_json: screen.JsonOption = False,
) -> None:
    """Run all stages of a recipe: data, train, distill where it asks for a student, export ... bench, report.

    Run again, it goes on after the last whole stage, and training from its last checkpoint. With --data instead of a
    recipe, one is written into the run folder first.
    """
    path = recipe_or_data(recipe, data, backbone, task, out)
    stages(path, overrides, out, as_json, until="report")


def recipe_or_data(
    recipe: Path | None, data: str | None, backbone: str | None, task: str | None, out: Path | None
) -> Path:
    """The recipe's path as given, or that of one that is written for the data into the run folder.

    One that was written there before and is unchanged is written anew, so that other options can be tried.

    Raises:
        RecipeError: neither or both are given, or the run folder has a recipe of the user's.
    """
    if data is None:
        if recipe is None:
            raise RecipeError("nothing to run: give a recipe, or labelled data: --data ./photos")
        if backbone is not None or task is not None:
            option = "--task" if backbone is None else "--backbone"
            raise RecipeError(f"{option} goes with --data; the recipe has its own: use --set to change it")
        return recipe
    if recipe is not None:
        raise RecipeError(f"got a recipe ({recipe}) and --data; give one of them")
    from tledge.cli import starters

    name = Path(data.rpartition(":")[2]).stem or "my-run"
    path = (out or Path("runs") / name) / "recipe.yaml"
    written = path.parent / run_folder.RECORDS / "init.json"
    if path.exists() and (not written.exists() or read_json(written)["recipe"] != sha256(path)):
        raise RecipeError(
            f"{path} is already there and was not left as --data wrote it; go on with it: tledge run {path.parent}, "
            "or choose another --out"
        )
    seen, told = starters.write(data, path, name=(out or Path(name)).name, task=task, backbone=backbone)
    written.parent.mkdir(exist_ok=True)
    write_json(written, {"recipe": sha256(path)})
    screen.say(starters.described(seen))
    if told:
        screen.say(told)
    screen.say(f"wrote {path}: change it, and run again with: tledge run {path.parent}")
    return path.parent


def stages(
    path: Path, overrides: list[str] | None, out: Path | None, as_json: bool, *, until: str, fp32_only: bool = False
) -> None:
    """Run a recipe's stages up to one of them and print where the results are."""
    recipe, folder = recipe_of(path, overrides or [], out)
    if until == "distill" and recipe.distill is None:
        raise RecipeError(
            f"{path} has no section distill, which says what the student is; add it (distill: {{}} takes every second "
            "layer), or: --set distill={}"
        )
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
