"""`tledge gate`: may this bundle ship? A verdict from measurements and a budget."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from tledge import artifacts, plugins
from tledge.artifacts import ACCEPT, ANOMALOUS, INCONCLUSIVE, REGRESSION, OnMachine, Verdict
from tledge.cli import devices, screen, side_by_side
from tledge.cli.bench import IsolateOption
from tledge.cli.predict import ProviderOption
from tledge.errors import InputError

EXIT_CODES = {ACCEPT: 0, REGRESSION: 11, ANOMALOUS: 12, INCONCLUSIVE: 13}

STANDARD_OUTPUT = Path("-")

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
        bool,
        typer.Option("--strict-provider", help="Call work on rows that the provider leaves to the CPU ANOMALOUS."),
    ] = False,
    any_machine: Annotated[
        bool, typer.Option("--any-machine", help="Hold limits on time here too, whatever machine the budget is for.")
    ] = False,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write a comment for a pull request.")
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write the verdict and all measurements as JSON; with `-` to standard output, and nothing else there.",
        ),
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
    device: devices.DeviceOption = None,
    device_python: devices.PythonOption = None,
    device_timeout: devices.TimeoutOption = devices.TIMEOUT_S,
    ssh_option: devices.SshOption = None,
) -> None:
    """Judge a bundle by a budget: ACCEPT (exit code 0), REGRESSION (11), ANOMALOUS (12) or INCONCLUSIVE (13).

    Latency is compared with OLD in paired, interleaved rounds, after this host's own noise has been measured. In a
    GitHub Actions job it prints annotations and adds to the job's summary. On several devices the exit code is that of
    the worst verdict, or 14 where one of them could not be reached.
    """
    from tledge.gate import budget as budgets
    from tledge.gate.judge import judge
    from tledge.gate.measure import measure

    ways = devices.ways(device, device_python, device_timeout, ssh_option)
    if len(ways) > 1:
        _check_files({"--junit": junit, "--benchmark-json": benchmark_json, "--bencher-json": bencher_json})
    limits = budgets.load(budget)
    if any_machine:
        limits = dataclasses.replace(limits, machines=(budgets.ANY,))

    def here() -> Verdict:
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
        return judge(measured, limits)

    def there(way: devices.Way) -> Verdict:
        from tledge import device
        from tledge.gate import sent

        told = sent.note(bundle, limits, rows)
        if told is not None:
            screen.say(f"note: {told}")
        flags = {"--isolate": isolate, "--strict-provider": strict, "--any-machine": any_machine}
        found = device.gate(
            way.url,
            sent.bundle(bundle),
            [
                *sent.arguments(bundle, budget, limits, against=against, rows=rows),
                *("--duration", str(duration), "--provider", provider),
                *(flag for flag, given in flags.items() if given),
            ],
            python=way.python,
            timeout_s=way.timeout_s,
            options=way.ssh_options,
            progress=screen.bars(),
            say=screen.say,
        )
        return artifacts.from_dict(Verdict, found)

    def on(way: devices.Way) -> OnMachine:
        return OnMachine(way.url, verdict=here() if way.is_local else there(way))

    if len(ways) > 1:
        raise typer.Exit(_several(devices.on_each(ways, on), json_file, markdown, history))
    verdict = here() if not ways or ways[0].is_local else there(ways[0])
    files = {"junit": junit, "markdown": markdown, "benchmark_action": benchmark_json, "bencher": bencher_json}
    for kind, file in files.items():
        if file is not None:
            _write(file, _rendered(kind, verdict))
    if json_file is not None:
        _write(json_file, artifacts.to_json(verdict))
    if history is not None:
        from tledge.gate.history import append

        append(history, verdict)
    if json_file != STANDARD_OUTPUT:
        _show(verdict)
    raise typer.Exit(EXIT_CODES[verdict.verdict])


def _check_files(given: Mapping[str, Path | None]) -> None:
    for option, file in given.items():
        if file is not None:
            raise InputError(
                f"{option}: its format has one machine's verdict, got several devices; run the gate once for each "
                "device with a file of its own, or use --json or --markdown"
            )


def _several(results: Sequence[OnMachine], json_file: Path | None, markdown: Path | None, history: Path | None) -> int:
    """Write and show what several machines said; gives the exit code."""
    from tledge.gate import machines

    found = machines.side_by_side(results)
    comment = side_by_side.comment(found)
    verdicts = [each.verdict for each in found.machines if each.verdict]
    if json_file is not None:
        _write(json_file, artifacts.to_json(found))
    if markdown is not None:
        _write(markdown, comment)
    if json_file != STANDARD_OUTPUT:
        side_by_side.gates(found)
        _tell_github("".join(_rendered("github", verdict) for verdict in verdicts), comment)
    if history is not None:
        from tledge.gate.history import append

        for verdict in verdicts:
            append(history, verdict)
    return devices.exit_code(results) or EXIT_CODES[found.verdict]


def _rendered(kind: str, verdict: Verdict) -> str:
    text: str = plugins.load(_FORMATS, kind).render(verdict)
    return text


def _write(path: Path, text: str) -> None:
    if path == STANDARD_OUTPUT:
        typer.echo(text, nl=False)
        return
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
    if seen := formats.seen_on(verdict):
        typer.echo(seen)
    typer.echo(f"{verdict.verdict}: {formats.summary(verdict)}")
    _tell_github(_rendered("github", verdict), _rendered("markdown", verdict))


def _tell_github(annotations: str, comment: str) -> None:
    """In a job of GitHub Actions print the annotations, and add the comment to the job's summary."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    typer.echo(annotations, nl=False)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(comment)
