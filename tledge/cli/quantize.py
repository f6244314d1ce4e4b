"""`tledge quantize`: variants of the exported graph, and the one that ships; or an int8 file of another tool mended."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from tledge.cli import screen
from tledge.cli.run import stages
from tledge.errors import InputError, MissingExtraError, did_you_mean

FIXES = ("pairs", "reduce_range", "none")


def command(
    run: Annotated[
        Path, typer.Argument(help="A recipe (YAML), a run folder to go on with, or an int8 ONNX file to mend.")
    ],
    scheme: Annotated[
        list[str] | None,
        typer.Option(
            "--scheme",
            help="A scheme to try instead of the recipe's, now and from then on in this run; repeatable.",
        ),
    ] = None,
    overflow_fix: Annotated[
        str | None,
        typer.Option(
            "--overflow-fix",
            metavar="FIX",
            help="How int8 weights are kept from overflowing on x86 without VNNI: pairs (by default), reduce_range or "
            "none.",
        ),
    ] = None,
    overrides: screen.SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The run folder, runs/NAME by default; of a file FILE_pairs.onnx beside it."),
    ] = None,
    as_json: screen.JsonOption = False,
) -> None:
    """Make the variants of a run's graph, score and time each, choose the fastest within the budget, and bundle.

    A variant that is slower than fp32 here, or worse than the budget allows, is never chosen. Of an int8 ONNX file, of
    whatever tool, it writes a copy whose weights cannot overflow, and says how many could.
    """
    if overflow_fix is not None and overflow_fix not in FIXES:
        meant = did_you_mean(overflow_fix, FIXES)
        raise InputError(f"--overflow-fix: expected one of {', '.join(FIXES)}, got {overflow_fix!r}{meant}")
    if run.suffix == ".onnx":
        if scheme or overrides:
            option = "--scheme" if scheme else "--set"
            raise InputError(f"{option}: {run} is a graph, not a run; leave it out")
        _mend(run, overflow_fix or "pairs", out, as_json)
        return
    chosen = [f"quantize.schemes=[{', '.join(scheme)}]"] if scheme else []
    fix = [f"quantize.overflow_fix={overflow_fix}"] if overflow_fix else []
    stages(run, [*(overrides or []), *chosen, *fix], out, as_json, until="bundle")


def _mend(path: Path, fix: str, out: Path | None, as_json: bool) -> None:
    """Write a copy of a graph that cannot overflow, or only say what was found where there is nothing to mend."""
    from tledge import overflow

    before = overflow.check(path)
    target = out or path.with_name(f"{path.stem}_{fix}.onnx")
    if out is None and (path.parent.parent / "bundle.json").exists():
        raise InputError(
            f"{path} lies in a bundle, which a new file would spoil; make its run anew with: tledge run RUN --set "
            f"quantize.overflow_fix={fix}, or name a place for the copy: --out"
        )
    if out is not None and target.exists() and not target.samefile(path):
        raise InputError(f"--out: {target} exists, and would be replaced; name a new file, or remove that one")
    if target.resolve() == path.resolve():
        raise InputError(f"--out: {target} is the file that is mended, which stays as it is; name another")
    after = None
    if before.possible and fix != "none":
        try:
            from tledge.quantize.overflow_fix import mend_file
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"the package {error.name!r} is not installed; run: pip install 'tledge[train]'"
            ) from error
        mend_file(path, target, fix)
        after = overflow.check(target)
    if as_json:
        screen.as_json(
            {
                "before": dataclasses.asdict(before),
                "after": None if after is None else dataclasses.asdict(after),
                "file": None if after is None else str(target),
            }
        )
        return
    typer.echo(f"{path}: {overflow.told(before)}")
    for name in before.layers:
        typer.echo(f"  {name}")
    if after is not None:
        typer.echo(f"{target}: {overflow.told(after)}")
    elif before.possible:
        typer.echo("left as it is (--overflow-fix none): it can answer otherwise on x86 processors without VNNI")
    else:
        typer.echo("nothing to mend")
