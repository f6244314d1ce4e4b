"""What the verbs share on the screen: progress bars on standard error, results on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from tledge.progress import Advance, Progress

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the recipe, such as finetune.epochs=5; repeatable.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]


def bars() -> Progress:
    """Progress bars on the terminal, and nothing where standard error is not one."""
    stream = sys.stderr  # kept: a stage sends what others print to its log

    @contextmanager
    def progress(description: str, total: int) -> Iterator[Advance]:
        if not stream.isatty():
            yield lambda count: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        words = TextColumn("{task.description}", markup=False)
        columns = (words, BarColumn(), MofNCompleteColumn(), _speed(), TimeRemainingColumn())
        with RichProgress(
            *columns,
            console=Console(file=stream),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as shown:
            bar = shown.add_task(description, total=total)
            yield lambda count: shown.advance(bar, count)

    return progress


def _speed() -> Any:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Speed(ProgressColumn):
        """How many in a second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="progress.data.speed")

    return Speed()


def say(line: str) -> None:
    """One line about the work, on standard error."""
    print(line, file=sys.__stderr__, flush=True)


def as_json(data: Any) -> None:
    """A result as one JSON document on standard output."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[str] = ()) -> None:
    """A table on standard output; the first column and those named in `text` are text, the others figures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Names are the user's own: `[int8]` is no markup and `:1:` no emoji. And where the output is no terminal, nobody's
    # window limits the width.
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in header:
        left = name in (header[0], *text)
        drawn.add_column(name, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    console.print(drawn)
