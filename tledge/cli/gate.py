"""`tledge gate`: may this bundle ship? A verdict from measurements and a budget."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from tledge import artifacts, plugins
from tledge.artifacts import ACCEPT, ANOMALOUS, INCONCLUSIVE, REGRESSION, Verdict
from tledge.cli import screen
from tledge.cli.bench import IsolateOption
from tledge.cli.predict import ProviderOption
from tledge.errors import InputError

EXIT_CODES = {ACCEPT: 0, REGRESSION: 11, ANOMALOUS: 12, INCONCLUSIVE: 13}

_FORMATS = "tledge.gate.formats"


def command(
    bundle: Annotated[Path, typer.Argument(help="A bundle or run folder.")],
    budget: Annotated[Path, typer.Option("--budget", help="The limits: a YAML file.")],
    against: Annotated[
        Path | None, typer.Option("--against", metavar="OLD", help="The bundle or run folder to compare with.")
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option("--rows", help="Labelled rows to evaluate on: CSV, TSV or JSON lines; else the budget's."),
    ] = None,
    duration: Annotated[
        float, typer.Option("--duration", min=0.5, help="Time limit in seconds of each timing and comparison.")
    ] = 8,
    isolate: IsolateOption = False,
    provider: ProviderOption = "cpu",
    strict: Annotated[
        bool, typer.Option("--strict-provider", help="Call it ANOMALOUS if the provider leaves a node to the CPU.")
    ] = False,
    any_machine: Annotated[
        bool, typer.Option("--any-machine", help="Hold limits on time here too, whatever machine the budget is for.")
    ] = False,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write a comment for a pull request.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the verdict and all measurements as JSON.")
    ] = None,
    benchmark_json: Annotated[
        Path | None,
        typer.Option("--benchmark-json", metavar="FILE", help="Write github-action-benchmark's customSmallerIsBetter."),
    ] = None,
    bencher_json: Annotated[
        Path | None, typer.Option("--bencher-json", metavar="FILE", help="Write Bencher Metric Format.")
    ] = None,
    history: Annotated[
        Path | None, typer.Option("--history", metavar="FILE", help="Add the result to this file of JSON lines.")
    ] = None,
) -> None:
    """Judge a bundle by a budget: ACCEPT (exit code 0), REGRESSION (11), ANOMALOUS (12) or INCONCLUSIVE (13).

    Latency is compared with OLD in paired, interleaved rounds, after this host's own noise has been measured. In a
    GitHub Actions job it prints annotations and adds to the job's summary.
    """
    from tledge.gate import budget as budgets
    from tledge.gate.judge import judge
    from tledge.gate.measure import measure

    limits = budgets.load(budget)
    if any_machine:
        limits = dataclasses.replace(limits, machines=(budgets.ANY,))
    measured = measure(
        bundle,
        limits,
        against=against,
        rows=rows,
        provider=provider,
        strict=strict,
        duration_s=duration,
        isolate=isolate,
        progress=screen.bars(),
    )
    verdict = judge(measured, limits)
    files = {"junit": junit, "markdown": markdown, "benchmark_action": benchmark_json, "bencher": bencher_json}
    for kind, file in files.items():
        if file is not None:
            _write(file, _rendered(kind, verdict))
    if json_file is not None:
        _write(json_file, artifacts.to_json(verdict))
    if history is not None:
        from tledge.gate.history import append

        append(history, verdict)
    _show(verdict)
    raise typer.Exit(EXIT_CODES[verdict.verdict])


def _rendered(kind: str, verdict: Verdict) -> str:
    text: str = plugins.load(_FORMATS, kind).render(verdict)
    return text


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; name another file") from error


def _show(verdict: Verdict) -> None:
    from tledge.gate import formats

    header = ("limit", "of", "allowed", "measured, 95 % interval", "verdict", "reason")
    cells = [
        (f.limit, formats.where(f), formats.allowed(f), formats.measured(f), f.verdict, f.reason)
        for f in formats.findings(verdict)
    ]
    screen.table(header, cells, ("of", "verdict", "reason"))
    if verdict.bench:
        typer.echo(f"on {formats.ran_on(verdict.bench.machine)}")
        for note in verdict.bench.notes:
            typer.echo(f"note: {note}")
    typer.echo(f"{verdict.verdict}: {formats.summary(verdict)}")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        typer.echo(_rendered("github", verdict), nl=False)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(_rendered("markdown", verdict))
