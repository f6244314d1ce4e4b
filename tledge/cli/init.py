"""`tledge init`: a commented starter recipe for one's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tledge.errors import RecipeError


def command(
    data: Annotated[
        str,
        typer.Argument(
            help="A CSV, TSV, JSONL, Parquet or .npz file, a folder of photos with a subfolder for each label, or "
            "hub:..., torchvision:..., arrays:... or package:..."
        ),
    ],
    task: Annotated[str | None, typer.Option("--task", help="The task; by default what the data look like.")] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", help="A hub id, a folder, torchvision:NAME, timm:NAME or package:NAME/PATH."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The recipe to write.")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Look at labelled data (columns, labels, sizes) and write a recipe for it, every key explained."""
    from tledge.cli import starters

    if out.exists() and not force:
        raise RecipeError(f"{out} is already there; use --force to replace it, or --out for another name")
    seen = starters.write(data, out, name=Path(data).stem or "my-run", task=task, backbone=backbone)
    typer.echo(starters.described(seen))
    typer.echo(f"wrote {out}, and recipe.schema.json beside it for editors; read it, then: tledge run {out}")
