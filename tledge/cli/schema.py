"""`tledge schema`: the recipe's JSON schema, for editors."""

from __future__ import annotations

from tledge.cli import screen


def command() -> None:
    """Print the JSON schema of recipes; an editor's YAML language server completes and checks keys with it."""
    from tledge.recipe.json_schema import json_schema

    screen.as_json(json_schema())
