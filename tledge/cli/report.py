"""`tledge report`: what a history of benches and gates shows, as a page with a trend for each machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tledge.errors import InputError


def command(
    history: Annotated[Path, typer.Option("--history", help="The file that bench and gate add to.")],
    out: Annotated[Path, typer.Option("--out", help="The page to write: .html, or .md for Markdown.")] = Path(
        "history.html"
    ),
) -> None:
    """Draw the trends in a history file: one plot for each machine, bundle and setting."""
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
