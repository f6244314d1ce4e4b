"""A recipe to its file."""

from __future__ import annotations

from pathlib import Path

from tledge import yaml12
from tledge.recipe.schema import Recipe

SCHEMA_FILE = "recipe.schema.json"
SCHEMA_COMMENT = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"
"""A recipe's first line: with the schema's file beside it, editors complete keys and mark mistakes."""


def recipe_text(recipe: Recipe) -> str:
    """Every key with its value, defaults too, as YAML."""
    return yaml12.write(recipe.model_dump(mode="json"))


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write every key with its value, so that another version's defaults change nothing."""
    aside = path.with_name(path.name + ".partial")
    aside.write_text(SCHEMA_COMMENT + recipe_text(recipe), encoding="utf-8", newline="\n")
    aside.replace(path)
