"""`tledge predict`: answers of a bundle, without torch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from tledge.cli.places import bundle_of
from tledge.errors import InputError

ProviderOption = Annotated[str, typer.Option("--provider", help="The onnxruntime execution provider: cpu, cuda, ...")]


def command(
    bundle: Annotated[Path, typer.Argument(help="A bundle or run folder.")],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts; - reads lines from standard input.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A file with one text a line, or .jsonl objects.")] = None,
    variant: Annotated[
        str | None, typer.Option("--variant", help="The variant to run; the chosen one by default.")
    ] = None,
    provider: ProviderOption = "cpu",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of one run.")] = None,
) -> None:
    """Print one JSON object for each text, as it comes: the text and the answer."""
    from tledge.runtime import Predictor

    if not texts and file is None:
        raise InputError("nothing to predict: got no TEXT and no --file; give texts, --file F, or - for standard input")
    predictor = Predictor.load(bundle_of(bundle), variant=variant, provider=provider, threads=threads)
    for place, text in _values(texts or [], file):
        try:
            answer = predictor.predict(text)
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
        typer.echo(json.dumps({"text": text, **answer}, ensure_ascii=False))


def _values(texts: Iterable[str], file: Path | None) -> Iterator[tuple[str, str]]:
    """Texts one by one as they come, each with where it came from."""
    for number, text in enumerate(texts, start=1):
        if text == "-":
            yield from _lines("standard input", sys.stdin.buffer)
        else:
            yield f"TEXT {number}", _typed(text)
    if file is not None:
        try:
            with file.open("rb") as lines:
                objects = file.suffix.lower() == ".jsonl"
                yield from _objects(str(file), lines) if objects else _lines(str(file), lines)
        except OSError as error:
            raise InputError(f"--file {file} cannot be read: {error.strerror}") from error


def _typed(text: str) -> str:
    """An argument as UTF-8, where Python read the command line by a locale that is none."""
    if sys.getfilesystemencoding() == "utf-8":
        return text
    return os.fsencode(text).decode("utf-8", "surrogateescape")


def _lines(name: str, lines: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, start=1):
        place = f"{name}:{number}"
        try:
            yield place, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError(f"{place}: is not UTF-8: {error.reason} at byte {error.start} of the line") from error


def _objects(name: str, lines: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    for place, line in _lines(name, lines):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, LookupError, TypeError, RecursionError):
            text = None
        if not isinstance(text, str):
            raise InputError(f'{place}: expected an object with a string "text", got {line.strip()[:60]!r}')
        yield place, text
