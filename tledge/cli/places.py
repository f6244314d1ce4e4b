"""What a path on the command line stands for: a recipe, a run or a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tledge.errors import RecipeError

if TYPE_CHECKING:
    from tledge.recipe import Recipe


def recipe_of(path: Path, overrides: Sequence[str], out: Path | None) -> tuple[Recipe, Path]:
    """The recipe and the run folder of a recipe's file or of a run folder.

    Raises:
        RecipeError: neither is there, or the recipe is wrong.
    """
    from tledge.recipe import load_recipe

    if path.is_dir():
        if not (path / "recipe.yaml").exists():
            raise RecipeError(f"{path} is no run folder: it has no recipe.yaml; start one with: tledge finetune RECIPE")
        return load_recipe(path / "recipe.yaml", overrides), out or path
    recipe = load_recipe(path, overrides)
    return recipe, out or Path("runs") / recipe.name


def bundle_of(path: Path) -> Path:
    """The bundle folder: the path itself, or the bundle of a run folder.

    Raises:
        BundleError: neither is there.
    """
    from tledge.bundle import find

    return find(path)
