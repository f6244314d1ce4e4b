"""`tledge report`: results of several machines side by side, or the trends in a history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tledge import artifacts
from tledge.cli import screen, side_by_side
from tledge.errors import InputError

PAGE = Path("history.html")


def command(
    results: Annotated[
        list[Path] | None,
        typer.Argument(help="Files that bench --json or gate --json wrote, to stand side by side by machine."),
    ] = None,
    history: Annotated[
        Path | None, typer.Option("--history", help="The file that bench and gate add to, for a page of trends.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The page of --history: .html, or .md for Markdown; history.html by default."),
    ] = None,
    as_json: screen.JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")] = False,
) -> None:
    """Put stored results of several machines side by side, or draw the trends in a history file.

    Results of one bundle's bench, or of its gate, become one table with a column for each machine. A history becomes a
    page with one plot for each machine, bundle and setting.
    """
    if results and history is None:
        if out is not None:
            raise InputError("--out is the page of --history; a table is printed: write > FILE behind --markdown")
        _side_by_side(results, as_json=as_json, markdown=markdown)
    elif history is not None and not results:
        if as_json or markdown:
            raise InputError("--json and --markdown print a table of results; the page of --history is named by --out")
        _trends(history, out or PAGE)
    else:
        raise InputError("expected either files of results, such as a.json b.json, or --history FILE")


def _side_by_side(paths: list[Path], *, as_json: bool, markdown: bool) -> None:
    from tledge.report.results import read

    for path in paths:
        if path.is_dir():
            raise InputError(
                f"{path} is a folder, expected a file that bench --json or gate --json wrote; the report of a run is "
                "RUN/report/report.html, which tledge run RUN makes anew where it is not there"
            )
    found = read(paths)
    if not any(each.verdict for each in found):
        side_by_side.benches(found, as_json=as_json, markdown=markdown)
        return
    from tledge.gate.machines import side_by_side as together

    judged = together(found)
    if as_json:
        screen.as_json(artifacts.to_dict(judged))
    elif markdown:
        typer.echo(side_by_side.comment(judged), nl=False)
    else:
        side_by_side.gates(judged)


def _trends(history: Path, out: Path) -> None:
    from tledge.gate.history import read
    from tledge.report import history as pages

    if out.suffix not in (".html", ".md"):
        raise InputError(f"--out: expected a file that ends in .html or .md, got {out}")
    records = read(history)
    page = pages.html(records) if out.suffix == ".html" else pages.markdown(records)
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out: {out} cannot be written: {error.strerror}; name another file") from error
    typer.echo(f"{len(records)} {'record' if len(records) == 1 else 'records'}: {out}")
