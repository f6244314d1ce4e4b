"""`tledge finetune`: from labelled data to a checkpoint."""

from __future__ import annotations

from tledge.cli import screen
from tledge.cli.run import OutOption, RecipeArgument, stages


def command(
    recipe: RecipeArgument,
    overrides: screen.SetOption = None,
    out: OutOption = None,
    as_json: screen.JsonOption = False,
) -> None:
    """Read the data and train: the stages data and train of a recipe.

    For several processes: torchrun --nproc-per-node 2 -m tledge finetune RECIPE.
    """
    stages(recipe, overrides, out, as_json, until="train")
