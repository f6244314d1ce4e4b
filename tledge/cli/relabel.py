"""`tledge relabel`: a zero-shot bundle with other labels, in about a second and without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tledge.cli import screen
from tledge.cli.places import bundle_of
from tledge.errors import InputError


def command(
    bundle: Annotated[Path, typer.Argument(help="A bundle of the strategy zero_shot, or its run folder.")],
    labels: Annotated[Path, typer.Argument(help="A YAML file: for each label its description, or a list of them.")],
    out: Annotated[Path, typer.Option("--out", help="The folder of the new bundle.")],
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone", help="Of images: the model that reads the descriptions, where it lies elsewhere now."
        ),
    ] = None,
    as_json: screen.JsonOption = False,
) -> None:
    """Give a bundle other labels: a new head is made of their descriptions, in every variant.

    A bundle of texts reads the descriptions itself, so that nothing is downloaded or trained; those of images are read
    by the tower of texts that their backbone has. Metrics are left out: nobody has measured them with these labels.
    """
    from tledge.stages import relabel

    described = relabel.descriptions_in(labels)
    source = bundle_of(bundle)
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise InputError(f"--out: {out} is already there; name a new folder")
    made = relabel.relabel(source, described, out, backbone=backbone)
    if as_json:
        screen.as_json({"bundle": str(out), "labels": list(made.labels), "variants": [v.name for v in made.variants]})
        return
    typer.echo(f"{out}: {len(made.labels)} labels ({', '.join(made.labels[:10])}), {len(made.variants)} variant(s)")
    typer.echo("nothing was measured with these labels; run a recipe with them and labelled rows for that")
