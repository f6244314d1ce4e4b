"""`tledge predict`: answers of a bundle, without torch."""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tledge.cli import values as kinds
from tledge.cli.boxes import Boxes
from tledge.cli.places import bundle_of
from tledge.cli.table_values import learnt_columns, lines_of
from tledge.cli.table_values import values as in_table
from tledge.cli.values import Given, Value
from tledge.cli.vectors import Vectors
from tledge.errors import InputError
from tledge.tables import is_table
from tledge.text_file import plain_suffix

if TYPE_CHECKING:
    from tledge.runtime import Generator, Predictor

NO_LINES = (
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
            help="Texts, two for each answer where the task takes pairs or a question and a text, or for a bundle of "
            "images their files or folders of them; - reads lines from standard input, two texts with a tab between "
            "them.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="A table (.csv, .tsv, .jsonl, or a file of SQuAD or COCO) with a column of texts or image paths, or a "
            "file with one a line; also packed by gzip or bzip2. Its paths are relative to it.",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            help='The column of the table; by default the one that was trained on, "text" or "image", or the only one '
            "that holds such. Once for each column of a task that has several.",
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
        int | None,
        typer.Option(
            "--top-k",
            help="Language models: draw from the K likeliest tokens; 0 from all. Hidden words: how many are told of "
            "each.  [default: 5] Questions: how many answers. With --nearest: how many lines.",
        ),
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Vectors: print them whole on a screen too, which else shows a part.")
    ] = False,
    npy: Annotated[
        Path | None, typer.Option("--npy", help="Vectors: write them to this file (.npy), a row each, not to print.")
    ] = None,
    nearest: Annotated[
        Path | None,
        typer.Option(
            "--nearest",
            help="Vectors: print the texts of this file (one a line, or a table's column) that are nearest by their "
            "cosine.",
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Vectors: the name of a prompt of the model, such as query.")
    ] = None,
    score_threshold: Annotated[
        float | None,
        typer.Option(
            "--score-threshold",
            min=0,
            max=1,
            help="Boxes: give those of this score and above; by default the bundle's.",
        ),
    ] = None,
    coco: Annotated[
        Path | None,
        typer.Option(
            "--coco",
            help="Boxes: write them to this file (.json) as COCO's, with the numbers of a file of COCO's given with "
            "--file.",
        ),
    ] = None,
    draw: Annotated[
        Path | None, typer.Option("--draw", help="Boxes: write each picture with its boxes into this folder.")
    ] = None,
) -> None:
    """Print one JSON object for each text or image, as it comes: the text or the image's path, and the answer.

    A language model goes on with each text: the answer is what it adds, how many tokens, and why it ends. The answer to
    a question is a part of its text, from code point "start" to "end"; it is empty where there is none. Objects in
    an image have "label", "score", and "xmin", "ymin", "xmax" and "ymax" in pixels of the upright image. A model of
    vectors gives them whole where its output goes to a file or a program. An image that cannot be read has its reason
    in "error", and the command then ends with exit code 9.
    """
    from tledge import tasks
    from tledge.runtime import Predictor

    if not values and file is None:
        raise InputError(
            "nothing to predict: got no VALUE and no --file; give texts or images, --file F, or - for standard input"
        )
    folder = bundle_of(bundle)
    predictor = Predictor.load(folder, variant=variant, provider=provider, threads=threads)
    vectors = _vectors(predictor, as_json, npy, nearest, [] if file else column or [], top_k, prompt)
    boxes = _boxes(predictor, folder, coco, draw, file)
    options = _given(
        score_threshold=score_threshold,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=None if vectors else top_k,
        top_p=top_p,
        stop=stop,
        seed=seed,
    )
    others = [name for name in options if name not in tasks.options(tasks.load(predictor.task))]
    if predictor.generator is None and (others or stream):
        named = [f"--{name.replace('_', '-')}" for name in [*others, *(["stream"] if stream else [])]]
        whose = "models of boxes" if others == ["score_threshold"] and not stream else "language models"
        raise InputError(f"{', '.join(named)}: only for {whose}; the task of this bundle is {predictor.task}")
    if column and not any(each is not None and is_table(each) for each in (file, nearest)):
        raise InputError(f"--column {column[0]}: only for a table; give one with --file, such as --file rows.csv")
    kind = kinds.load(predictor.manifest.input.kind)
    names = tasks.load(predictor.task).INPUT_COLUMNS
    given = chain(_of_arguments(values or [], names), _of_file(file, names, column or [], folder, predictor.holds))
    unread, unknown, cut = _Unread(), _Unknown(predictor), _Cut(predictor)
    options |= vectors.options if vectors else {}
    for each in kind.expanded(given):
        try:
            if stream and predictor.generator is not None:
                _stream(predictor.generator, each.value, options)
                continue
            answer = predictor.predict(each.value, **options)
        except InputError as error:
            if strict or kind.STOPS:
                raise InputError(f"{each.place}: {error}") from error
            unread.add(each.place, error)
            typer.echo(json.dumps({**each.shown, "error": str(error)}, ensure_ascii=False))
            continue
        unread.n_answered += 1
        if boxes is not None:
            boxes.take(each, answer)
        if vectors is None:
            typer.echo(json.dumps({**each.shown, **answer}, ensure_ascii=False))
        else:
            vectors.take(each, answer)
        unknown.look(each)
        cut.look(each)
    if vectors is not None:
        vectors.end()
    if boxes is not None:
        boxes.end()
    unknown.sum_up()
    cut.sum_up()
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

    def look(self, given: Value) -> None:
        """Count one value; the first unknown one is named."""
        place = given.place
        self._n_texts += 1
        if not all(text.strip() for text in given.shown.values()) and self._predictor.generator is None:
            self._n_empty += 1
            if self._n_empty == 1:
                typer.echo(f"note: {place}: the text is empty, so that the answer means nothing", err=True)
            return
        share = self._predictor.unknown_share(given.value)
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


class _Cut:
    """Notes on standard error about texts that have more tokens than the model reads."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._n_texts = self._n_cut = 0

    def look(self, given: Value) -> None:
        """Count one value; the first one that was cut is named."""
        self._n_texts += 1
        left_out = 0 if self._predictor.generator is not None else self._predictor.n_cut(given.value)
        if left_out:
            self._n_cut += 1
            if self._n_cut == 1:
                read = self._predictor.manifest.input.max_length
                note = f"the model reads {read} tokens; {left_out} more of this text are left out"
                typer.echo(f"note: {given.place}: {note}", err=True)

    def sum_up(self) -> None:
        """Say how many they were, if more than one."""
        if self._n_cut > 1:
            typer.echo(f"note: {self._n_cut} of {self._n_texts} texts are longer than the model reads", err=True)


def _vectors(
    predictor: Predictor,
    as_json: bool,
    npy: Path | None,
    nearest: Path | None,
    columns: Sequence[str],
    top_k: int | None,
    prompt: str | None,
) -> Vectors | None:
    """What becomes of vectors, where the model gives such.

    Raises:
        InputError: it gives others, and an option is for vectors.
    """
    if predictor.prompts is not None:
        return Vectors(predictor, as_json, npy, nearest, columns, top_k, prompt)
    asked = _given(npy=npy, nearest=nearest, prompt=prompt)
    if asked:
        named = ", ".join(f"--{name}" for name in asked)
        raise InputError(f"{named}: only for models of vectors; the task of this bundle is {predictor.task}")
    return None


def _boxes(predictor: Predictor, bundle: Path, coco: Path | None, draw: Path | None, file: Path | None) -> Boxes | None:
    """What becomes of boxes beside printing them, where something is asked for.

    Raises:
        InputError: the model gives none.
    """
    from tledge import tasks

    asked = _given(coco=coco, draw=draw)
    if asked and tasks.load(predictor.task).OUTPUT != "boxes":
        named = ", ".join(f"--{name}" for name in asked)
        raise InputError(f"{named}: only for models of boxes; the task of this bundle is {predictor.task}")
    return Boxes(predictor, bundle, coco, draw, file) if asked else None


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


def _of_arguments(arguments: Sequence[str], names: Sequence[str]) -> Iterator[Given]:
    """What the command line and standard input give, as it comes; a task of several columns takes so many together.

    Raises:
        InputError: some are left over.
    """
    place = f"{names[0].upper()} {{}}"
    number = 0
    waiting: list[str] = []
    for argument in arguments:
        if argument == "-":
            yield from _split(_lines("standard input", sys.stdin.buffer), names, Path())
            continue
        waiting.append(_typed(argument))
        if len(waiting) == len(names):
            number += 1
            yield Given(place.format(number), tuple(waiting), Path())
            waiting = []
    if waiting:
        raise InputError(
            f"{place.format(number + 1)}: the task takes {' and '.join(names)} together, but {waiting[-1]!r:.60} is "
            f"the last VALUE; give {len(names)} for each answer"
        )


def _of_file(
    file: Path | None, names: Sequence[str], columns: Sequence[str], bundle: Path, holds: Callable[[object], bool]
) -> Iterator[Given]:
    """What a table or the lines of a file give, as it comes; a column that nobody named is told."""
    if file is None:
        return
    try:
        if plain_suffix(file.name) in NO_LINES:
            known = "a table (.csv, .tsv, .jsonl) or a text file with one value a line"
            raise InputError(f"--file {file} cannot be read: got {plain_suffix(file.name)}, expected {known}")
        if not is_table(file):
            yield from _split(lines_of(file), names, file.parent)
            return
        chosen, cells = in_table(file, names, columns, learnt_columns(bundle), holds)
        if not columns and chosen != list(names):
            read = " and ".join(map(repr, chosen))
            options = " ".join(["--column NAME"] * len(names))
            which = (
                f"the column {read} is read; another one" if len(names) == 1 else f"the columns {read} are read; others"
            )
            typer.echo(f"note: --file {file}: {which}: {options}", err=True)
        yield from (Given(place, found, file.parent) for place, found in cells)
    except (OSError, EOFError, zlib.error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else f"is it cut short? {error}"
        raise InputError(f"--file {file} cannot be read: {why}") from error


def _split(lines: Iterable[tuple[str, str]], names: Sequence[str], base: Path) -> Iterator[Given]:
    """Lines, each one value; where the task has several columns, their parts between tabs.

    Raises:
        InputError: a line has fewer or more parts.
    """
    for place, line in lines:
        cells = line.split("\t") if len(names) > 1 else [line]
        if len(cells) != len(names):
            raise InputError(f"{place}: expected {' and '.join(names)} with a tab between them, got {line!r:.60}")
        yield Given(place, tuple(cells), base)


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
