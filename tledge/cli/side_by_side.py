"""The results of several machines on standard output: as a table, as JSON or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from tledge import artifacts
from tledge.artifacts import OnMachine, SideBySide
from tledge.cli import screen


def benches(results: Sequence[OnMachine], *, as_json: bool = False, markdown: bool = False) -> None:
    """Benchmarks, with which candidate is the fastest where."""
    from tledge.report import machines

    found = machines.side_by_side(results)
    if as_json:
        screen.as_json(artifacts.to_dict(found))
    elif markdown:
        typer.echo(machines.markdown(found))
    else:
        table = machines.section(found)
        if table.rows:
            screen.table(table.header, table.rows, table.words)
        notes = (f"note: {note}" for note in machines.notes(found.machines))
        for line in (*table.notes, *machines.ran_on(found.machines), *notes):
            typer.echo(line)


def gates(found: SideBySide) -> None:
    """Verdicts, the worst of all in the last line."""
    from tledge.gate import machines

    table = machines.section(found)
    screen.table(table.header, table.rows, table.words)
    for line in (*table.notes, *machines.ran_on(found.machines), machines.summary(found)):
        typer.echo(line)


def comment(found: SideBySide) -> str:
    """Verdicts as a comment for a pull request."""
    from tledge.gate import machines
    from tledge.gate.formats.markdown import marker

    judged = [each.verdict.name for each in found.machines if each.verdict]
    return machines.markdown(found, marker(judged[0] if judged else ""))
