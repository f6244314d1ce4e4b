"""The JSON schema for editors: `python -m tledge.recipe.json_schema > recipes/recipe.schema.json`."""

from __future__ import annotations

import json
import sys
from typing import Any

from tledge.recipe import keys


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a recipe, as plain types without references."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tledge recipe",
        **_for_editors(keys.tree(), required=True),
    }


def schema_text() -> str:
    """The text of `recipe.schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _for_editors(section: keys.Node, *, required: bool) -> keys.Node:
    """A section that may be left empty, as in a starter whose keys are commented out, also takes null."""
    must = section.get("required", [])
    properties = {
        key: _for_editors(node, required=key in must) if keys.is_section(node) else node
        for key, node in section["properties"].items()
    }
    section = {key: value for key, value in section.items() if key != "optional"}
    return {**section, "properties": properties, "type": "object" if required else ["object", "null"]}


if __name__ == "__main__":
    sys.stdout.write(schema_text())
