"""A first recipe for labelled data: what `tledge init` writes, and what a run without a recipe writes first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge.errors import RecipeError

if TYPE_CHECKING:
    from tledge.data import Preview
    from tledge.yaml12 import KeyPath


def write(data: str, path: Path, *, name: str, task: str | None, backbone: str | None) -> Preview:
    """Look at labelled data and write a commented recipe for it; gives what was seen.

    Args:
        data: a file, a folder of photos, or a reference with a prefix.
        path: the recipe to write; the recipe's schema is written beside it.
        name: the run's name.
        task: the task's name, by default what the data look like.
        backbone: the backbone, by default a small one for the task.

    Raises:
        RecipeError: the recipe cannot be written, or there is no such task.
        DataError: nothing readable is there.
    """
    from tledge import data as data_room
    from tledge import tasks
    from tledge.recipe import starter
    from tledge.recipe.json_schema import schema_text
    from tledge.recipe.load import PREFIXES
    from tledge.recipe.save import SCHEMA_FILE

    prefixed = data.startswith(PREFIXES)
    parts = None if prefixed else data_room.split_folders(Path(data))
    source = str(parts["train"]) if parts else data
    seen = data_room.look(source, base=Path.cwd(), task=task)
    module = tasks.load(seen.task)
    columns = {module.INPUT_COLUMN: seen.input_column, module.LABEL_COLUMN: seen.label_column}
    facts = starter.Facts(
        columns={} if seen.is_folder else {name: column for name, column in columns.items() if name and column},
        labels=seen.labels,
        n_rows=seen.n_rows,
    )
    label_columns: dict[tuple[str, ...], Any] = (
        {("data", "label_columns"): list(seen.label_columns)} if seen.label_columns else {}
    )
    text = starter.starter(
        seen.task,
        facts,
        name=name,
        data_path_text=source if prefixed else _relative(Path(source), path.parent),
        backbone=backbone,
        settings=_own_splits(parts or {}, path.parent) | label_columns,
    )
    schema = path.parent / SCHEMA_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        schema.write_text(schema_text(), encoding="utf-8", newline="\n")
    except OSError as error:
        raise RecipeError(f"{path} cannot be written: {error.strerror}; choose another: --out") from error
    return seen


def described(seen: Preview) -> str:
    """What was seen, in one line."""
    if seen.label_columns:
        what = f"{len(seen.label_columns)} columns of 0 and 1, one a label: {', '.join(map(repr, seen.label_columns))}"
        return f"{seen.n_rows} rows, columns {', '.join(seen.columns)}; {what} (task {seen.task})"
    if not seen.label_column:
        size = "" if seen.size_bytes is None else f", {seen.size_bytes / 1e6:.1f} MB"
        return f"{seen.n_rows} lines or texts{size}, for a language model"
    if seen.is_folder:
        return f"{seen.n_rows} images in {len(seen.labels)} class folders"
    labels = f"{len(seen.labels)} labels" if seen.labels else "numbers"
    return f"{seen.n_rows} rows, columns {', '.join(seen.columns)}; {labels} in {seen.label_column!r}"


def _own_splits(parts: dict[str, Path], folder: Path) -> dict[KeyPath, Any]:
    return {("data", name): _relative(path, folder) for name, path in parts.items() if name != "train"}


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder)
