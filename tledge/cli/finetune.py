"""`tledge finetune`: from labelled data to a checkpoint."""

from __future__ import annotations

from tledge.cli import screen
from tledge.cli.run import BackboneOption, DataOption, OutOption, RecipeOrNone, TaskOption, recipe_or_data, stages


def command(
    recipe: RecipeOrNone = None,
    data: DataOption = None,
    backbone: BackboneOption = None,
    task: TaskOption = None,
    overrides: screen.SetOption = None,
    out: OutOption = None,
    as_json: screen.JsonOption = False,
) -> None:
    """Read the data and train: the stages data and train of a recipe.

    Without a recipe: tledge finetune --data ./photos --backbone torchvision:mobilenet_v3_small --out runs/photos. The
    recipe that is used is then written into the run folder, to be read and changed.
    For several processes: torchrun --nproc-per-node 2 -m tledge finetune RECIPE.
    """
    path = recipe_or_data(recipe, data, backbone, task, out)
    stages(path, overrides, out, as_json, until="train")
