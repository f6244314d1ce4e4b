"""The JSON schema and the reference page are made from the schema, and the repository's are current."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tledge.recipe import keys
from tledge.recipe.json_schema import json_schema, schema_text
from tledge.recipe.reference import reference

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("module", "page", "text"),
    [
        ("json_schema", "recipes/recipe.schema.json", schema_text()),
        ("reference", "docs/recipe.md", reference()),
    ],
)
def test_the_repository_has_the_current_page(module: str, page: str, text: str) -> None:
    stored = (ROOT / page).read_text(encoding="utf-8")
    assert stored == text, f"run: python -m tledge.recipe.{module} > {page}"
    done = subprocess.run(
        [sys.executable, "-m", f"tledge.recipe.{module}"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert (done.stdout, done.stderr) == (text, "")


def test_the_schema_is_plain_and_strict() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["name", "task", "data", "model"]
    assert "$ref" not in json.dumps(schema)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["finetune"]["additionalProperties"] is False


def test_only_sections_with_defaults_may_be_empty() -> None:
    sections = json_schema()["properties"]
    assert sections["data"]["type"] == "object"
    assert sections["bench"]["type"] == ["object", "null"]
    assert sections["model"]["properties"]["head"]["type"] == ["object", "null"]


def test_every_key_has_a_description_on_one_line() -> None:
    wanting = [path for path, node in keys.every() if "\n" in node.get("description", "\n")]
    assert wanting == []


def test_every_key_has_its_row() -> None:
    rows = [line.split("`")[1] for line in reference().splitlines() if line.startswith("| `")]
    assert rows == [
        str(key)
        for section in [keys.tree(), *(node for _, node in keys.every() if keys.is_section(node))]
        for key in section["properties"]
    ]


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    (row,) = [line for line in reference().splitlines() if line.startswith("| `label_separator`")]
    assert row.replace("\\|", "").count("|") == 5
