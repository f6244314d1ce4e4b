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
    full: Annotated[
        bool, typer.Option("--full", help="Write every key, with its whole description and default.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Look at labelled data (columns, labels, sizes) and write a short commented recipe for it.

    Its backbone is one that can be had here: installed with a package, in the hub's cache, or from the hub.
    """
    from tledge.cli import starters

    if out.exists() and not force:
        raise RecipeError(f"{out} is already there; use --force to replace it, or --out for another name")
    seen, told = starters.write(data, out, name=Path(data).stem or "my-run", task=task, backbone=backbone, full=full)
    typer.echo(starters.described(seen))
    if told:
        typer.echo(told)
    typer.echo(f"wrote {out}, and recipe.schema.json beside it for editors; read it, then: tledge run {out}")
