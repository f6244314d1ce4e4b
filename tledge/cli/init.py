"""`tledge init`: a commented starter recipe for one's own data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tledge.errors import RecipeError


def command(
    data: Annotated[str, typer.Argument(help="A CSV, TSV, JSONL or Parquet file, or hub:... or package:...")],
    task: Annotated[str | None, typer.Option("--task", help="The task; by default what the labels look like.")] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="A hub id, a folder, or package:NAME/PATH.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The recipe to write.")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Look at a data file (columns, labels, sizes) and write a recipe for it, every key explained."""
    from tledge import data as data_room
    from tledge import tasks
    from tledge.recipe import starter
    from tledge.recipe.json_schema import schema_text
    from tledge.recipe.save import SCHEMA_FILE

    if out.exists() and not force:
        raise RecipeError(f"{out} is already there; use --force to replace it, or --out for another name")
    seen = data_room.look(data, base=Path.cwd())
    task = task or ("text_multilabel" if seen.multilabel else "text_classification")
    tasks.load(task)
    local = not data.startswith(("hub:", "package:"))
    facts = starter.Facts(
        columns={name: column for name, column in (("text", seen.text_column), ("label", seen.label_column)) if column},
        labels=seen.labels,
        n_rows=seen.n_rows,
    )
    text = starter.starter(
        task,
        facts,
        name=Path(data).stem or "my-run",
        data_path_text=os.path.relpath(data, out.parent) if local else data,
        **({"backbone": backbone} if backbone else {}),
    )
    schema = out.parent / SCHEMA_FILE
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8", newline="\n")
        schema.write_text(schema_text(), encoding="utf-8", newline="\n")
    except OSError as error:
        raise RecipeError(f"{out} cannot be written: {error.strerror}; choose another: --out") from error
    typer.echo(
        f"{seen.n_rows} rows, columns {', '.join(seen.columns)}; {len(seen.labels)} labels in {seen.label_column!r}"
    )
    typer.echo(f"wrote {out}, and {schema.name} beside it for editors; read it, then: tledge run {out}")
