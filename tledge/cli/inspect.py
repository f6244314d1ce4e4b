"""`tledge inspect`: what a model consists of and what would train, what a student would be, or what is in a bundle."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Annotated, Any

import typer

from tledge import captured
from tledge.cli import screen
from tledge.errors import RecipeError

STRATEGIES = ("probe", "partial", "full")
OURS = ("bundle.json", "golden.safetensors", "bundle/bundle.json", "recipe.yaml")  # of a bundle or run folder
RANDOM = ", which serve to look at it; --weights loads others and checks that they fit"


def command(
    what: Annotated[
        str,
        typer.Argument(
            help="A bundle or run folder, or a backbone or language model: hub id, folder, package:NAME/PATH, "
            "torchvision:NAME, timm:NAME, a .gguf file or fresh:TYPE."
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
    student: Annotated[
        str | None,
        typer.Option(
            "--student",
            metavar="BLOCKS",
            help="Show what a student of these blocks would be, and time it untrained: every_second, first_and_last "
            "or numbers such as 0,2,4. Of a run folder the teacher is the trained checkpoint.",
        ),
    ] = None,
    student_shape: Annotated[
        str | None,
        typer.Option(
            "--student-shape",
            metavar="SIZES",
            help="Instead: a student with other sizes and random weights, such as n_layers=3,hidden_size=128; also "
            "n_heads and intermediate_size.",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="For fresh:TYPE, which has none of its own.")
    ] = None,
    as_json: screen.JsonOption = False,
) -> None:
    """Show a model's blocks and what a freeze setting would train, what a student would be, or a bundle's variants.

    A language model is shown with its head, as causal_lm trains it; with --strategy probe as a backbone without it.
    """
    path = Path(what)
    if student is not None or student_shape is not None:
        from tledge.cli.student import show

        if student is not None and student_shape is not None:
            raise RecipeError("--student-shape: a student is made in one way; leave it or --student out")
        if strategy or unfreeze or freeze or weights:
            raise RecipeError("--strategy, --unfreeze, --freeze and --weights are not for students; leave them out")
        show(what, student, student_shape, tokenizer=tokenizer, as_json=as_json)
        return
    if any((path / name).exists() for name in OURS):
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
    chosen = strategy or ("partial" if unfreeze or freeze else None)
    numbers = _number(unfreeze, "--unfreeze"), _number(freeze, "--freeze")
    if chosen != "probe" and weights is None and _has_language_head(what):
        _language(what, chosen or "full", *numbers, tokenizer, as_json)
        return
    _backbone(what, chosen or "probe", *numbers, weights, match, as_json)


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

    with captured.to(io.StringIO()):
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
    _parts(parts, strategy)
    typer.echo(f"{plan.trainable:,} of {plan.total:,} backbone parameters train, and the head")


def _has_language_head(reference: str) -> bool:
    from tledge import model

    with captured.to(io.StringIO()):
        return model.student.has_language_head(reference)


def _language(
    reference: str,
    strategy: str,
    unfreeze: int | str | None,
    freeze: int | str | None,
    tokenizer: str | None,
    as_json: bool,
) -> None:
    from tledge import model

    with captured.to(io.StringIO()):
        language = model.load_language(reference, tokenizer=tokenizer)
        plan = model.freeze(language.module, strategy, unfreeze, freeze)
        parts = _language_parts(language.module)
    config = language.config
    facts = {
        "language_model": reference,
        "architecture": type(language.module).__name__,
        "hidden_size": config.hidden_size,
        "context_length": model.context_length(config),
        "vocabulary": config.vocab_size,
        "strategy": strategy,
        "trainable": plan.trainable,
        "total": plan.total,
        "blocks": [dataclasses.asdict(part) for part in parts],
    }
    if as_json:
        screen.as_json(facts)
        return
    typer.echo(
        f"{reference}: {facts['architecture']}, hidden size {config.hidden_size}, "
        f"context {facts['context_length']:,} tokens, vocabulary {config.vocab_size:,} tokens"
    )
    _parts(parts, strategy)
    typer.echo(f"{plan.trainable:,} of {plan.total:,} parameters train")


def _language_parts(module: Any) -> list[Any]:
    """The parts of the body, and the head where it has weights of its own."""
    from tledge import model

    prefix = f"{module.base_model_prefix}."
    inner = [dataclasses.replace(part, name=prefix + part.name) for part in model.describe(module.base_model)]
    return inner + [part for part in model.describe(module) if not f"{part.name}.".startswith(prefix)]


def _parts(parts: Any, strategy: str) -> None:
    rows = [(p.name, f"{p.parameters:,}", f"{p.trainable:,}" if p.trainable else "frozen") for p in parts]
    screen.table(("part", "parameters", f"trains with {strategy}"), rows)


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
    from tledge import artifacts, bundle, overflow, tasks
    from tledge.bench.table import megabytes
    from tledge.cli.places import bundle_of

    folder = bundle_of(path)
    manifest = bundle.load(folder)
    if as_json:
        screen.as_json(artifacts.to_dict(manifest))
        return
    decoding = manifest.generation
    typer.echo(
        f"{manifest.task}, {len(manifest.labels)} labels: {', '.join(manifest.labels)}"
        if decoding is None
        else f"{manifest.task}, reads {decoding.context_length:,} tokens, new ones included"
    )
    metric = tasks.load(manifest.task).METRIC
    rows = [
        (f"{v.name} (chosen)" if v.chosen else v.name, megabytes(v.graph.size_bytes / 1e6),
         f"{v.test_metrics[metric]:.3f}" if metric in v.test_metrics else "-", v.reason)
        for v in manifest.variants
    ]  # fmt: skip
    screen.table(("variant", "MB", f"test {metric}", "why"), rows, text=("why",))
    for v in manifest.variants:
        found = overflow.check(folder / v.graph.path)
        if found.products:
            hint = f": answers differ on x86 without VNNI; {overflow.MEND}" if found.possible else ""
            typer.echo(f"{v.name}: {overflow.told(found)}{hint}")
    for kind in sorted({v.processor.kind for v in manifest.variants if v.processor is not None}):
        typer.echo(f"scored and timed on {kind}")
    graph = next(v.graph for v in manifest.variants if v.chosen)
    typer.echo(f"opset {graph.opset}, IR version {graph.ir_version}")
    for kind, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor in tensors:
            typer.echo(f"{kind} {tensor.name}: {tensor.dtype} ({', '.join(map(str, tensor.shape))})")
