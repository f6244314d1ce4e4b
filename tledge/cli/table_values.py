"""The inputs in the columns of a table or the lines of a file, for `tledge predict --file`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import cast

from tledge.errors import DataError, InputError, did_you_mean
from tledge.tables import Row, open_table, whole_rows
from tledge.tables.source import open_text, undecodable

LOOKED_AT = 100  # rows that a column is guessed from


def values(
    file: Path,
    names: Sequence[str],
    wanted: Sequence[str],
    learnt: Mapping[str, str],
    holds: Callable[[object], bool] = lambda cell: False,
) -> tuple[list[str], Iterator[tuple[str, tuple[str, ...]]]]:
    """The columns of a table that hold the inputs, and the cells of each row, with its place.

    Args:
        file: the table.
        names: of the task's columns.
        wanted: the columns that were asked for, one for each of `names`; empty to find them.
        learnt: what the columns were called where the model was trained, as far as that is known.
        holds: whether a cell that is no text holds an input all the same, which are the tokens of one.

    Raises:
        InputError: there is no row or no such column, or it is not clear which one is meant; while rows are read: one
            is broken, or has no text there.
    """
    if wanted and (len(wanted) != len(names) or len(set(wanted)) < len(wanted)):
        once = "once" if len(names) == 1 else f"{len(names)} times, each another column"
        raise InputError(f"--column: got {', '.join(wanted)}; the task takes {' and '.join(names)}: give it {once}")
    try:
        source = open_table(file)
        rows = whole_rows(source)
        first = list(islice(rows, 1))
        if not first:
            raise InputError(f"--file {file} has no row; expected a header and rows, or one JSON object a line")
        columns = list(first[0].cells)
        if not columns:
            raise InputError(f"{first[0].name}: expected an object with columns, got {{}}")
        chosen = [_named(file, columns, names, i, wanted, learnt) for i in range(len(names))]
        if chosen == [""]:
            first += islice(rows, LOOKED_AT)
            chosen = [_likely(file, columns, first, names[0])]
    except DataError as error:
        raise _of_file(file, error) from error
    return chosen, _cells(file, chain(first, rows), chosen, holds)


def _cells(
    file: Path, rows: Iterator[Row], columns: Sequence[str], holds: Callable[[object], bool]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    from tledge.inputs.words import joined_text

    try:
        for row in rows:
            cells = (row.cells.get(column) for column in columns)
            found = tuple(joined_text(cell) if isinstance(cell, list) and holds(cell) else cell for cell in cells)
            for column, cell in zip(columns, found, strict=True):
                if not isinstance(cell, str):
                    shown = json.dumps(row.cells, ensure_ascii=False, default=str)[:60]
                    raise InputError(f'{row.name}: expected a string in "{column}", got {shown}')
            yield row.name, cast("tuple[str, ...]", found)
    except DataError as error:
        raise _of_file(file, error) from error


def _of_file(file: Path, error: DataError) -> InputError:
    """What is wrong with a table or its row, with the whole path of the file."""
    own = str(error)
    return InputError(own if str(file) in own else f"--file {file}: {own}")


def _named(
    file: Path, columns: list[str], names: Sequence[str], i: int, wanted: Sequence[str], learnt: Mapping[str, str]
) -> str:
    """The column that a name tells, or the only one; else empty.

    Raises:
        InputError: there is no such column, and it cannot be guessed.
    """
    if wanted and wanted[i] not in columns:
        raise InputError(
            f"--file {file} has no column {wanted[i]!r}; its columns are {', '.join(map(repr, columns))}"
            f"{did_you_mean(wanted[i], columns)}"
        )
    asked = (wanted[i] if wanted else None, learnt.get(names[i]), names[i])
    named = next((name for name in asked if name is not None and name in columns), "")
    if not named and len(names) > 1:
        shown, options = ", ".join(map(repr, columns)), " ".join(f"--column {name.upper()}" for name in names)
        raise InputError(f"--file {file}: its columns are {shown}; say which of them are the task's: {options}")
    return named or (columns[0] if len(columns) == 1 else "")


def _likely(file: Path, columns: list[str], first: list[Row], name: str) -> str:
    """The only column whose cells hold words or files' names."""
    likely = [column for column in columns if any(_is_text(row.cells.get(column)) for row in first)]
    if len(likely) == 1:
        return likely[0]
    shown = ", ".join(map(repr, columns))
    raise InputError(f"--file {file}: its columns are {shown}; say which of them holds the {name}s: --column NAME")


def _is_text(value: object) -> bool:
    """Whether a cell holds words, or a file's name, rather than a label or a number."""
    return isinstance(value, str) and (len(value.split()) > 1 or bool(Path(value).suffix.lstrip(".").isalpha()))


def learnt_columns(bundle: Path) -> Mapping[str, str]:
    """What the training data called the task's columns, where a bundle lies in its run folder; else empty."""
    try:
        report = json.loads((bundle.parent / "data" / "data.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    columns = report.get("columns") if isinstance(report, dict) else None
    return {k: v for k, v in columns.items() if isinstance(v, str)} if isinstance(columns, dict) else {}


def lines_of(file: Path) -> Iterator[tuple[str, str]]:
    """Each line of a plain text file with its place, without its end.

    Raises:
        InputError: the file cannot be read, or a line is not of its encoding.
    """
    try:
        text = open_text(file, "utf-8", newline="\n")
        for number, line in enumerate(text.lines, start=1):
            place = f"{file}:{number}"
            broken = undecodable(place, line, text.encoding)
            if broken is not None and broken.problem is not None:
                raise InputError(
                    f"{place}: {broken.problem.detail.replace('set data.encoding', 'save the file as UTF-8')}"
                )
            yield place, line.rstrip("\r\n")
    except DataError as error:
        raise _of_file(file, error) from error
