"""`tledge predict`: answers of a bundle, without torch."""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from tledge.cli.places import bundle_of
from tledge.cli.table_values import column_of, is_table, learnt_column, lines_of
from tledge.cli.table_values import values as values_in
from tledge.errors import InputError
from tledge.text_file import plain_suffix

if TYPE_CHECKING:
    from tledge.runtime import Generator, Predictor

NO_LINES = (
    ".json",
    ".xlsx",
    ".xls",
    ".ods",
    ".parquet",
    ".feather",
    ".arrow",
    ".xml",
    ".html",
    ".pdf",
    ".docx",
    ".zip",
)
MOSTLY = 0.5  # the share of a text's tokens above which its answer means little

ProviderOption = Annotated[
    str,
    typer.Option(
        "--provider", help="The onnxruntime execution provider: cpu, cuda, tensorrt, openvino, coreml, dml, xnnpack ..."
    ),
]


def command(
    bundle: Annotated[Path, typer.Argument(help="A bundle or run folder.")],
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VALUE",
            help="Texts, or for a bundle of images their files or folders of them; - reads lines from standard input.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="A table (.csv, .tsv, .jsonl) with a column of texts or image paths, or a file with one a line; also "
            "packed by gzip or bzip2. Its paths are relative to it.",
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            "--column",
            help='The column of the table; by default the one that was trained on, "text" or "image", or the only one '
            "that holds such.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Stop at the first image that cannot be read instead of answering the others."),
    ] = False,
    variant: Annotated[
        str | None, typer.Option("--variant", help="The variant to run; the chosen one by default.")
    ] = None,
    provider: ProviderOption = "cpu",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of one run.")] = None,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Language models: print the prompt and what follows as it comes, not JSON."),
    ] = False,
    max_new_tokens: Annotated[
        int | None,
        typer.Option("--max-new-tokens", min=1, help="Language models: tokens to add at most.  [default: 64]"),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            help="Language models: draw tokens, 1 as likely as they are, less more surely; 0 takes the "
            "likeliest.  [default: 0]",
        ),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", help="Language models: draw from the K likeliest tokens; 0 from all.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option("--top-p", help="Language models: draw from the likeliest tokens of this probability together."),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", help="Language models: end before this text; may be given several times."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Language models: draw the same tokens as with the same seed before.")
    ] = None,
) -> None:
    """Print one JSON object for each text or image, as it comes: the text or the image's path, and the answer.

    A language model goes on with each text: the answer is what it adds, how many tokens, and why it ends. An image that
    cannot be read has its reason in "error", and the command then ends with exit code 9.
    """
    from tledge.runtime import Predictor

    if not values and file is None:
        raise InputError(
            "nothing to predict: got no VALUE and no --file; give texts or images, --file F, or - for standard input"
        )
    folder = bundle_of(bundle)
    predictor = Predictor.load(folder, variant=variant, provider=provider, threads=threads)
    kind = predictor.manifest.input.kind
    options = _given(
        max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, stop=stop, seed=seed
    )
    if predictor.generator is None and (options or stream):
        named = [f"--{name.replace('_', '-')}" for name in [*options, *(["stream"] if stream else [])]]
        raise InputError(f"{', '.join(named)}: only for language models; the task of this bundle is {predictor.task}")
    if column is not None and (file is None or not is_table(file)):
        raise InputError(f"--column {column}: only for a table; give one with --file, such as --file rows.csv")
    found = _values(values or [], file, kind, column, folder)
    unread, unknown = _Unread(), _Unknown(predictor)
    for place, value, shown in _images(found) if kind == "image" else ((p, text, text) for p, text, _ in found):
        try:
            if stream and predictor.generator is not None:
                _stream(predictor.generator, shown, options)
                continue
            answer = predictor.predict(value, **options)
        except InputError as error:
            if strict or kind != "image":
                raise InputError(f"{place}: {error}") from error
            unread.add(place, error)
            typer.echo(json.dumps({kind: shown, "error": str(error)}, ensure_ascii=False))
            continue
        unread.n_answered += 1
        typer.echo(json.dumps({kind: shown, **answer}, ensure_ascii=False))
        if kind == "text":
            unknown.look(place, shown)
    unknown.sum_up()
    unread.end()


class _Unread:
    """Counts the images that were answered and those that could not be read."""

    def __init__(self) -> None:
        self.n_answered = 0
        self._n_unread = 0
        self._first = ""

    def add(self, place: str, error: InputError) -> None:
        """One that could not be read."""
        self._first = self._first or f"{place}: {error}"
        self._n_unread += 1

    def end(self) -> None:
        """Raise the first one's reason, if there is any."""
        if self._n_unread:
            n_all = self._n_unread + self.n_answered
            others = f" ({self._n_unread} of {n_all} images have no answer)" if n_all > 1 else ""
            raise InputError(f"{self._first}{others}")


class _Unknown:
    """Notes on standard error about texts that are empty, or of which the model's vocabulary knows less than half."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._n_texts = self._n_unknown = self._n_empty = 0

    def look(self, place: str, text: str) -> None:
        """Count one text; the first unknown one is named."""
        self._n_texts += 1
        if not text.strip() and self._predictor.generator is None:
            self._n_empty += 1
            if self._n_empty == 1:
                typer.echo(f"note: {place}: the text is empty, so that the answer means nothing", err=True)
            return
        share = self._predictor.unknown_share(text)
        if share > MOSTLY:
            self._n_unknown += 1
            if self._n_unknown == 1:
                note = (
                    f"{share:.0%} of its tokens are unknown to the model's vocabulary, so that the answer means little"
                )
                typer.echo(f"note: {place}: {note}", err=True)

    def sum_up(self) -> None:
        """Say how many they were, if more than one."""
        if self._n_empty > 1:
            typer.echo(f"note: {self._n_empty} of {self._n_texts} texts are empty", err=True)
        if self._n_unknown > 1:
            typer.echo(f"note: {self._n_unknown} of {self._n_texts} texts are mostly unknown", err=True)


def _given(**options: Any) -> dict[str, Any]:
    """The options that are on the command line."""
    return {name: value for name, value in options.items() if value is not None}


def _stream(generator: Generator, prompt: str, options: dict[str, Any]) -> None:
    """Print a prompt and what follows; a line is ended even where Ctrl-C ends the text."""
    pieces = generator.stream(prompt, **options)
    try:
        typer.echo(prompt, nl=False)
        for piece in pieces:
            typer.echo(piece, nl=False)
    finally:
        typer.echo()


def _values(
    arguments: Iterable[str], file: Path | None, kind: str, column: str | None, bundle: Path
) -> Iterator[tuple[str, str, Path]]:
    """Texts or paths one by one as they come, each with where it came from and what a path is relative to."""
    for number, argument in enumerate(arguments, start=1):
        if argument == "-":
            yield from ((*line, Path()) for line in _lines("standard input", sys.stdin.buffer))
        else:
            yield f"{kind.upper()} {number}", _typed(argument), Path()
    if file is None:
        return
    try:
        with file.open("rb") as binary:
            if plain_suffix(file.name) in NO_LINES:
                known = "a table (.csv, .tsv, .jsonl) or a text file with one value a line"
                raise InputError(f"--file {file} cannot be read: got {plain_suffix(file.name)}, expected {known}")
            found = _in_table(file, binary, kind, column, bundle) if is_table(file) else lines_of(file, binary)
            yield from ((*each, file.parent) for each in found)
    except (OSError, EOFError, zlib.error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else f"is it cut short? {error}"
        raise InputError(f"--file {file} cannot be read: {why}") from error
    except UnicodeError as error:
        raise InputError(f"--file {file} cannot be read: {error}; write it as UTF-8") from error


def _in_table(file: Path, binary: BinaryIO, kind: str, column: str | None, bundle: Path) -> Iterator[tuple[str, str]]:
    """Each value in the column of a table with its place; a column that nobody named is told."""
    chosen, rows = column_of(file, binary, kind, column, learnt_column(bundle, kind))
    if chosen not in (column, kind):
        typer.echo(f"note: --file {file}: the column {chosen!r} is read; another one: --column NAME", err=True)
    yield from values_in(rows, chosen)


def _images(found: Iterable[tuple[str, str, Path]]) -> Iterator[tuple[str, Path, str]]:
    """Where each image came from, its path, and how that is shown; a folder stands for the images in it."""
    for place, text, base in found:
        if not text.strip():
            continue
        try:
            path = base / os.fsdecode(text.encode("utf-8", "surrogateescape"))
        except UnicodeError as error:
            raise InputError(f"{place}: {text!a} cannot be the name of a file") from error
        inside = _in_folder(path)
        if inside is None:
            yield place, path, text
        elif not inside:
            raise InputError(f"{place}: the folder {text} has no image in it")
        else:
            for each in inside:
                yield place, each, str(Path(text) / each.relative_to(path))


def _in_folder(path: Path) -> list[Path] | None:
    """The image files in a folder and in those below it, hidden ones left out, sorted; None if it is no folder."""
    from tledge.inputs.image import suffixes

    try:
        if not path.is_dir():
            return None
    except OSError:  # opening it will tell the reason
        return None
    files = [each for each in path.rglob("*") if each.suffix.lower() in suffixes() and each.is_file()]
    return sorted(each for each in files if not any(part[0] == "." for part in each.relative_to(path).parts))


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
