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

STRATEGIES = ("probe", "partial", "full")
RANDOM = ", which serve to look at it; --weights loads others and checks that they fit"


def command(
    what: Annotated[
        str,
        typer.Argument(
            help="A bundle or run folder, or a backbone: hub id, folder, package:NAME/PATH, torchvision:NAME or "
            "timm:NAME."
        ),
    ],
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="probe, partial or full: mark what would train.")
    ] = None,
    unfreeze: Annotated[
        str | None,
        typer.Option("--unfreeze", help="A number of last blocks, the first block to train, or a name pattern."),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option("--freeze", help="Instead: a number of first blocks, or the last block to stay frozen."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="For torchvision: and timm: load these weights (a name of theirs or a file) and check that they fit; "
            "random ones otherwise, which need no download.",
        ),
    ] = None,
    match: Annotated[str, typer.Option("--match", help="How a file's tensors are matched: names or order.")] = "names",
    as_json: screen.JsonOption = False,
) -> None:
    """Show a backbone's blocks and what a freeze setting would train, or a bundle's variants and inputs."""
    path = Path(what)
    if any((path / name).exists() for name in ("bundle.json", "bundle/bundle.json", "recipe.yaml")):
        if strategy or unfreeze or freeze or weights:
            raise RecipeError(
                "--strategy, --unfreeze, --freeze and --weights are for a backbone, "
                f"but {what} is a bundle or run folder"
            )
        _bundle(path, as_json)
        return
    if strategy not in (None, *STRATEGIES):
        raise RecipeError(f"--strategy: expected {', '.join(STRATEGIES[:2])} or {STRATEGIES[2]}, got {strategy!r}")
    if unfreeze and freeze:
        raise RecipeError("--freeze: say either what trains (--unfreeze) or what stays frozen; leave one out")
    if strategy == "partial" and unfreeze is None and freeze is None:
        raise RecipeError(
            "--strategy partial needs --unfreeze: a number of blocks, a block's name or a name pattern (or --freeze)"
        )
    if strategy in ("probe", "full") and (unfreeze or freeze):
        raise RecipeError(f"--unfreeze and --freeze are for strategy partial, got --strategy {strategy}")
    if match not in ("names", "order"):
        raise RecipeError(f"--match: expected names or order, got {match!r}")
    chosen = strategy or ("partial" if unfreeze or freeze else "probe")
    _backbone(what, chosen, _number(unfreeze, "--unfreeze"), _number(freeze, "--freeze"), weights, match, as_json)


def _number(text: str | None, option: str) -> int | str | None:
    """A number of blocks, or a name or pattern."""
    if text is None or not text.isdecimal():
        return text
    if int(text) == 0:
        raise RecipeError(f"{option}: expected a number of blocks from 1 on, or a name; got 0")
    return int(text)


def _backbone(
    reference: str,
    strategy: str,
    unfreeze: int | str | None,
    freeze: int | str | None,
    weights: str | None,
    match: str,
    as_json: bool,
) -> None:
    from tledge import model

    with noise.to(io.StringIO()):
        backbone: Any
        if model.kind_of(reference) == "image":
            of_library = reference.startswith(("torchvision:", "timm:"))
            own = weights or ("none" if of_library else None)
            backbone = model.load_backbone(
                reference, kind="image", weights=own, match="order" if match == "order" else "names"
            )
            body, facts = backbone.module, _image_facts(backbone)
            sample = {"pixel_values": _sample(backbone)}
        else:
            if weights is not None:
                raise RecipeError("--weights: is for torchvision: and timm: backbones; leave it out")
            backbone = model.load_backbone(reference)
            body, facts, sample = backbone.module, _text_facts(backbone), None
            if backbone.pooling != "pooler" and getattr(body, "pooler", None) is not None:
                body.pooler = None  # with this pooling it is never run
        plan = model.freeze(body, strategy, unfreeze, freeze, sample=sample)
        parts = model.describe(body, sample)
    facts = {
        "backbone": reference,
        "architecture": type(body).__name__,
        **facts,
        "strategy": strategy,
        "trainable": plan.trainable,
        "total": plan.total,
        "blocks": [dataclasses.asdict(part) for part in parts],
    }
    if as_json:
        screen.as_json(facts)
        return
    for line in _lines(facts):
        typer.echo(line)
    rows = [(p.name, f"{p.parameters:,}", f"{p.trainable:,}" if p.trainable else "frozen") for p in parts]
    screen.table(("part", "parameters", f"trains with {strategy}"), rows)
    typer.echo(f"{plan.trainable:,} of {plan.total:,} backbone parameters train, and the head")


def _text_facts(backbone: Any) -> dict[str, Any]:
    return {"hidden_size": backbone.config.hidden_size, "pooling": backbone.pooling}


def _image_facts(backbone: Any) -> dict[str, Any]:
    from tledge import artifacts

    return {
        "n_features": backbone.n_features,
        "last_layer": backbone.last_layer.name,
        "second_classifier": backbone.aux,
        "preprocessing": artifacts.to_dict(backbone.preprocessing),
        "notes": list(backbone.notes),
    }


def _sample(backbone: Any) -> Any:
    import numpy as np

    height, width = backbone.preprocessing.size
    return np.zeros((1, 3, height, width), np.float32)


def _lines(facts: dict[str, Any]) -> list[str]:
    """What is said above the table."""
    name = f"{facts['backbone']}: {facts['architecture']}"
    if "pooling" in facts:
        return [f"{name}, hidden size {facts['hidden_size']}, pooling {facts['pooling']}"]
    prepared = facts["preprocessing"]
    height, width = prepared["size"]
    resize = prepared["resize"]
    resized = f"shorter side {resize}" if isinstance(resize, int) else " x ".join(map(str, resize or ("own size",)))
    lines = [
        f"{name}, {facts['n_features']} features, input {height} x {width} (resized to {resized}, "
        f"{prepared['interpolation']}); the new head takes the place of {facts['last_layer']!r}"
    ]
    if facts["second_classifier"]:
        lines.append(f"second classifier {facts['second_classifier']!r}: only in training, with a fresh last layer")
    return lines + [f"note: {note}" + RANDOM * (note == "random weights") for note in facts["notes"]]


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
