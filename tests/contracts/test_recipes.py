"""Every recipe in the repository loads, is commented key by key, and leads editors to the schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from tledge import yaml12
from tledge.recipe import load_recipe
from tledge.recipe.load import PREFIXES
from tledge.recipe.save import SCHEMA_COMMENT

RECIPES = Path(__file__).parents[2] / "recipes"
YOURS = str(RECIPES / "photos")  # what a recipe says where the user's own folder goes
FILES = sorted(RECIPES.rglob("*.yaml"))

pytestmark = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_recipe_loads_and_is_named_like_its_file(path: Path) -> None:
    assert load_recipe(path).name == path.stem


def test_local_data_is_in_the_repository(path: Path) -> None:
    data = load_recipe(path).data
    local = [source for source in (data.train, data.validation, data.test) if isinstance(source, str)]
    missing = [s for s in local if not s.startswith(PREFIXES) and not Path(s).is_file() and not s.startswith(YOURS)]
    assert missing == []


def test_first_line_leads_to_the_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines(keepends=True)[0]
    assert first.startswith(SCHEMA_COMMENT.partition("=")[0])
    assert (path.parent / first.partition("=")[2].strip()).resolve() == RECIPES / "recipe.schema.json"


def test_every_key_is_commented(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    _, places = yaml12.read(text, lambda line, column: f"{line}:{column}")
    keys = {line for way, (line, _) in places.items() if way and isinstance(way[-1], str)}
    bare = [
        lines[number - 1]
        for number in sorted(keys)
        if " #" not in lines[number - 1] and not lines[number - 2].lstrip().startswith("#")
    ]
    assert bare == []


def test_own_files_can_stand_in_for_the_data(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path, ["data.train=train.csv", "data.test=test.csv"], cwd=tmp_path)
    assert (recipe.data.train, recipe.data.test) == (str(tmp_path / "train.csv"), str(tmp_path / "test.csv"))
