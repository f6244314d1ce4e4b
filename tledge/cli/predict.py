"""`tledge predict`: answers of a bundle, without torch."""

from __future__ import annotations

import json
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
    for text in _values(texts or [], file):
        # An encoding without surrogates: what cannot be written is shown escaped.
        line = json.dumps({"text": text, **predictor.predict(text)}, ensure_ascii=False)
        typer.echo(line)


def _values(texts: Iterable[str], file: Path | None) -> Iterator[str]:
    for text in texts:
        if text == "-":
            sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
            yield from (line.rstrip("\r\n") for line in sys.stdin)
        else:
            yield text
    if file is not None:
        yield from _lines(file)


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                yield _object(file, number, line) if file.suffix == ".jsonl" else line.rstrip("\r\n")
    except OSError as error:
        raise InputError(f"--file {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--file {file} is not UTF-8: {error.reason} at byte {error.start}") from error


def _object(file: Path, number: int, line: str) -> str:
    try:
        return str(json.loads(line)["text"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'{file}:{number}: expected an object with "text", got {line.strip()[:60]!r}') from error
