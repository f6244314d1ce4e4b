"""`tledge distill`: from a teacher to a smaller student, and what the teacher gave."""

from __future__ import annotations

from tledge.cli import screen
from tledge.cli.run import OutOption, RecipeArgument, stages


def command(
    recipe: RecipeArgument,
    overrides: screen.SetOption = None,
    out: OutOption = None,
    as_json: screen.JsonOption = False,
) -> None:
    """Read the data, train the teacher, and distil the student: the stages data, train and distill of a recipe.

    The recipe's section distill says what the student is and what it learns; distill: {} takes every second of the
    teacher's layers. Beside it the same student is trained without the teacher, which shows what the teacher gave.
    A teacher that is there already: --set finetune.strategy=none --set model.backbone=runs/NAME/train/checkpoint.
    """
    stages(recipe, overrides, out, as_json, until="distill")
