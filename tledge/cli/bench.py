"""`tledge bench`: how fast a bundle's variants are on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tledge import artifacts
from tledge.cli import screen
from tledge.cli.places import bundle_of
from tledge.cli.predict import ProviderOption
from tledge.errors import InputError

if TYPE_CHECKING:
    from tledge.evaluate import Run


def command(
    bundle: Annotated[Path, typer.Argument(help="A bundle or run folder.")],
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="A variant to time; all by default. Repeatable.")
    ] = None,
    batch: Annotated[str, typer.Option("--batch", help="Rows of one run, such as 1,8.")] = "1",
    length: Annotated[
        str | None, typer.Option("--length", help="Tokens of a text, such as 32,128; 32 by default. Images have none.")
    ] = None,
    threads: Annotated[str, typer.Option("--threads", help="Threads of one run, such as 1,2.")] = "1",
    percentile: Annotated[
        float, typer.Option("--for", min=50, max=99.9, help="Take enough samples for this percentile.")
    ] = 90,
    duration_s: Annotated[float, typer.Option("--duration", min=0.1, help="Time limit for one setting.")] = 120,
    provider: ProviderOption = "cpu",
    no_torch: Annotated[
        bool, typer.Option("--no-torch", help="Leave torch eager out, the reference in a run folder.")
    ] = False,
    as_json: screen.JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")] = False,
) -> None:
    """Time the variants of a bundle, interleaved in one run, with torch eager as the reference where it is at hand.

    Torch eager needs the run's checkpoint beside the bundle and the train extra. A percentile is printed only when
    there are enough samples for it.
    """
    batches, counts = _numbers("--batch", batch), _numbers("--threads", threads)
    lengths = None if length is None else _numbers("--length", length)
    folder = bundle_of(bundle)
    from tledge.bench.bundled import run_bundle

    result = run_bundle(
        folder,
        variants=variant,
        batches=batches,
        lengths=lengths,
        threads=counts,
        percentile=percentile,
        duration_s=duration_s,
        provider=provider,
        extra={} if no_torch else _torch_eager(folder.parent / "train" / "checkpoint", folder),
        progress=screen.bars(),
    )
    if as_json:
        screen.as_json(artifacts.to_dict(result))
    elif markdown:
        from tledge.report import bench_markdown

        typer.echo(bench_markdown(result))
    else:
        from tledge.bench.table import lines, rows

        screen.table(*rows(result))
        for line in [*lines(result), _machine(result.machine), *(f"note: {note}" for note in result.notes)]:
            typer.echo(line)


def _torch_eager(checkpoint: Path, bundle: Path) -> dict[str, Callable[[int], Run]]:
    """Torch eager as a candidate, where a bundle lies in its run and torch is installed."""
    if not checkpoint.exists():
        return {}
    if importlib.util.find_spec("torch") is None:
        screen.say("torch is not installed, so torch eager is left out")
        return {}
    from tledge.stages.bench import torch_reference

    return {"torch eager": torch_reference(checkpoint, bundle)}


def _numbers(option: str, text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise InputError(f"{option}: expected whole numbers from 1 on, such as 1,8; got {text!r}")
    return numbers


def _machine(machine: artifacts.Machine) -> str:
    quota = f", quota {machine.quota_cores:g}" if machine.quota_cores else ""
    flags = " ".join(machine.cpu_flags) or "no known inference extensions"
    return (
        f"on {machine.cpu}, {machine.cores} cores{quota} ({flags}), onnxruntime {machine.onnxruntime}, {machine.system}"
    )
