"""`tledge inspect`: what a backbone consists of and what would train, or what is in a bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from tledge.cli import screen
from tledge.errors import RecipeError


def command(
    what: Annotated[
        str, typer.Argument(help="A bundle or run folder, or a backbone: hub id, folder, package:NAME/PATH.")
    ],
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="probe, partial or full: mark what would train.")
    ] = None,
    unfreeze: Annotated[
        str | None, typer.Option("--unfreeze", help="A number of last blocks, or a name pattern.")
    ] = None,
    as_json: screen.JsonOption = False,
) -> None:
    """Show a backbone's blocks and what a freeze setting would train, or a bundle's variants and inputs."""
    path = Path(what)
    if (path / "bundle.json").exists() or (path / "bundle" / "bundle.json").exists():
        _bundle(path, as_json)
        return
    if strategy not in (None, "probe", "partial", "full"):
        raise RecipeError(f"--strategy: expected probe, partial or full, got {strategy!r}")
    if strategy == "partial" and unfreeze is None:
        raise RecipeError("--strategy partial needs --unfreeze: a number of blocks or a name pattern")
    _backbone(what, strategy or ("partial" if unfreeze else "probe"), unfreeze, as_json)


def _backbone(reference: str, strategy: str, unfreeze: str | None, as_json: bool) -> None:
    from tledge import model

    backbone = model.load_backbone(reference)
    number = int(unfreeze) if unfreeze and unfreeze.isdecimal() else unfreeze
    plan = model.freeze(backbone.module, strategy, number)
    blocks = model.describe(backbone.module)
    facts: dict[str, Any] = {
        "backbone": reference,
        "architecture": type(backbone.module).__name__,
        "hidden_size": backbone.config.hidden_size,
        "pooling": backbone.pooling,
        "strategy": strategy,
        "trainable": plan.trainable,
        "total": plan.total,
        "blocks": [dataclasses.asdict(block) for block in blocks],
    }
    if as_json:
        screen.as_json(facts)
        return
    typer.echo(f"{reference}: {facts['architecture']}, hidden size {facts['hidden_size']}, pooling {backbone.pooling}")
    rows = [(b.name, f"{b.parameters:,}", f"{b.trainable:,}" if b.trainable else "frozen") for b in blocks]
    screen.table(("part", "parameters", f"trains with {strategy}"), rows)
    typer.echo(f"{plan.trainable:,} of {plan.total:,} backbone parameters train, and the head")


def _bundle(path: Path, as_json: bool) -> None:
    from tledge import artifacts, bundle
    from tledge.cli.places import bundle_of

    manifest = bundle.load(bundle_of(path))
    if as_json:
        screen.as_json(artifacts.to_dict(manifest))
        return
    typer.echo(f"{manifest.task}, {len(manifest.labels)} labels: {', '.join(manifest.labels)}")
    rows = [
        (
            f"{v.name}{' (chosen)' if v.chosen else ''}", f"{v.graph.size_bytes / 1e6:.1f}", str(v.graph.opset),
            " ".join(f"{name} {value:.3f}" for name, value in v.test_metrics.items()), v.reason,
        )
        for v in manifest.variants
    ]  # fmt: skip
    screen.table(("variant", "MB", "opset", "test metrics", "why"), rows)
    graph = next(v.graph for v in manifest.variants if v.chosen)
    for kind, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor in tensors:
            typer.echo(f"{kind} {tensor.name}: {tensor.dtype} ({', '.join(map(str, tensor.shape))})")
