"""The recipe: its keys, and how it is read, checked, explained and written.

::

    recipe = load_recipe("recipe.yaml", ["finetune.epochs=5"])
    save_recipe(recipe, Path("runs/mine/recipe.yaml"))
"""

from tledge.recipe.load import load_recipe
from tledge.recipe.save import save_recipe
from tledge.recipe.schema import Recipe

__all__ = ["Recipe", "load_recipe", "save_recipe"]
