"""Plain text files, one document each: what a language model reads; given line by line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tledge.tables.source import Options, Row, Source, TextFile, broken, open_text, undecodable

SUFFIXES = (".txt", ".md", ".tokens")

COLUMN = "text"


def open_file(path: Path, options: Options) -> Source:
    """The lines of a text file with their ends, which together are its text.

    Raises:
        DataError: the file cannot be read, or the encoding is unknown; see `open_text`.
    """
    text = open_text(path, options.encoding, newline="\n")
    return Source(
        path.name,
        (COLUMN,),
        lambda wanted: _lines(text, path.name, text.encoding),
        text.size,
        text.done,
        path,
        is_one_text=True,
        read_as=f"in {text.encoding}" if text.encoding != options.encoding else "",
    )


def _lines(text: TextFile, file: str, encoding: str) -> Iterator[Row]:
    for number, line in enumerate(text.lines, start=1):
        name = f"{file}:{number}"
        if "\0" in line:
            yield broken(name, "NUL byte", f"a NUL byte; is this a text file, and of the encoding {encoding}?")
        else:
            yield undecodable(name, line, encoding) or Row(name, {COLUMN: line})
