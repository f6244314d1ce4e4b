"""`tledge inspect`: what a backbone consists of and what would train, or what is in a bundle."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Annotated, Any

import typer

from tledge import noise
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
    if any((path / name).exists() for name in ("bundle.json", "bundle/bundle.json", "recipe.yaml")):
        if strategy or unfreeze:
            raise RecipeError(f"--strategy and --unfreeze are for a backbone, but {what} is a bundle or run folder")
        _bundle(path, as_json)
        return
    if strategy not in (None, "probe", "partial", "full"):
        raise RecipeError(f"--strategy: expected probe, partial or full, got {strategy!r}")
    if strategy == "partial" and unfreeze is None:
        raise RecipeError("--strategy partial needs --unfreeze: a number of blocks or a name pattern")
    _backbone(what, strategy or ("partial" if unfreeze else "probe"), unfreeze, as_json)


def _backbone(reference: str, strategy: str, unfreeze: str | None, as_json: bool) -> None:
    from tledge import model

    number = int(unfreeze) if unfreeze and unfreeze.isdecimal() else unfreeze
    if number == 0:
        raise RecipeError("--unfreeze: expected a number of blocks from 1 on, or a name pattern; got 0")
    with noise.to(io.StringIO()):
        backbone = model.load_backbone(reference)
    body: Any = backbone.module
    if backbone.pooling != "pooler" and getattr(body, "pooler", None) is not None:
        body.pooler = None  # with this pooling it is never run
    plan = model.freeze(body, strategy, number)
    blocks = model.describe(body)
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
    from tledge import artifacts, bundle, tasks
    from tledge.bench.table import megabytes
    from tledge.cli.places import bundle_of

    manifest = bundle.load(bundle_of(path))
    if as_json:
        screen.as_json(artifacts.to_dict(manifest))
        return
    typer.echo(f"{manifest.task}, {len(manifest.labels)} labels: {', '.join(manifest.labels)}")
    metric = tasks.load(manifest.task).METRIC
    rows = [
        (f"{v.name} (chosen)" if v.chosen else v.name, megabytes(v.graph.size_bytes / 1e6),
         f"{v.test_metrics[metric]:.3f}" if metric in v.test_metrics else "-", v.reason)
        for v in manifest.variants
    ]  # fmt: skip
    screen.table(("variant", "MB", f"test {metric}", "why"), rows, text=("why",))
    graph = next(v.graph for v in manifest.variants if v.chosen)
    typer.echo(f"opset {graph.opset}, IR version {graph.ir_version}")
    for kind, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor in tensors:
            typer.echo(f"{kind} {tensor.name}: {tensor.dtype} ({', '.join(map(str, tensor.shape))})")
