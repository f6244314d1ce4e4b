"""CoNLL files: one token a line with its columns, and a blank line behind each text.

A row is a text: `tokens` are its first column and `tags` its last; each column is there as `column1`, `column2` and so
on too. Columns are parted by tabs, or by any white space where a line has no tab. Lines that begin a document
(`-DOCSTART-`) and comments (lines that begin with `#` and have another number of columns) are passed over.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tledge.errors import DataError
from tledge.tables.source import Options, Row, Source, TextFile, broken, open_text, undecodable

SUFFIXES = (".conll", ".iob", ".iob2", ".bio", ".bioes")

LOOKED_AT = 100  # lines that tell the number of columns, and texts that tell the kind of tags
DOCUMENT = "-DOCSTART-"


def open_file(path: Path, options: Options) -> Source:
    """The texts of a CoNLL file. Tags in which a `B` only parts two spans of one label (IOB1) become IOB2.

    Raises:
        DataError: the file has no token, or is no text of the given encoding.
    """
    text = open_text(path, options.encoding, newline="\n")
    first_lines = list(itertools.islice(text.lines, LOOKED_AT))
    counts = Counter(len(_columns(line)) for line in first_lines if not _is_blank(line) and line[:1] != "#")
    width = max(counts, key=lambda n: (counts[n], n), default=0)
    if not width:
        raise DataError(f"{path.name} has no token in its first lines; expected one a line, with its tag behind it")
    names = [f"column{i + 1}" for i in range(width)]
    rows = _rows(itertools.chain(first_lines, text.lines), path.name, text, width)
    first = list(itertools.islice(rows, LOOKED_AT))
    old = {name for name in names if _is_iob1([row.cells[name] for row in first if not row.problem])}
    told = [
        *([f"in {text.encoding}"] if text.encoding != options.encoding else []),
        *(["with tags in IOB1"] if names[-1] in old else []),
    ]
    return Source(
        path.name,
        ("tokens", "tags", *names),
        lambda wanted: (_row(row, names, old) for row in itertools.chain(first, rows)),
        text.size,
        text.done,
        path,
        read_as=" ".join(told),
    )


def _rows(lines: Iterator[str], file: str, text: TextFile, width: int) -> Iterator[Row]:
    """One row a text, with `column1` and so on."""
    first, tokens, problem = 0, [], None
    for number, line in enumerate(itertools.chain(lines, [""]), start=1):
        cells = _columns(line)
        if line.startswith("#") and len(cells) != width:
            continue
        if not _is_blank(line) and cells[0] != DOCUMENT:
            first = first or number
            name = f"{file}:{number}"
            problem = problem or undecodable(name, line, text.encoding) or _wrong(name, cells, width)
            tokens.append(cells)
        elif tokens:
            columns = (
                {} if problem else {f"column{i + 1}": list(each) for i, each in enumerate(zip(*tokens, strict=True))}
            )
            yield problem or Row(f"{file}:{first}", columns)
            first, tokens, problem = 0, [], None


def _wrong(name: str, cells: Sequence[str], width: int) -> Row | None:
    if len(cells) != width:
        return broken(name, "malformed line", f"{len(cells)} columns, expected {width} as in the lines before")
    return broken(name, "malformed line", "a column without anything in it") if not all(cells) else None


def _columns(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()


def _is_blank(line: str) -> bool:
    return not line.strip()


def _row(row: Row, names: Sequence[str], old: set[str]) -> Row:
    if row.problem is not None:
        return row
    columns: dict[str, Any] = {name: _iob2(row.cells[name]) if name in old else row.cells[name] for name in names}
    return Row(row.name, {"tokens": columns[names[0]], "tags": columns[names[-1]], **columns})


def _is_iob1(texts: Sequence[Sequence[str]]) -> bool:
    """Whether spans begin with `I` throughout, unless they stand behind one of the same label."""
    begins = {
        tag[0]
        for tags in texts
        for before, tag in zip(["O", *tags], tags, strict=False)
        if tag[:2] in ("B-", "I-") and before[2:] != tag[2:]
    }
    return begins == {"I"}


def _iob2(tags: Sequence[str]) -> list[str]:
    return [
        f"B{tag[1:]}" if tag[:2] == "I-" and before[2:] != tag[2:] else tag
        for before, tag in zip(["O", *tags], tags, strict=False)
    ]
