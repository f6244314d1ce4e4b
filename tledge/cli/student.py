"""What a student would be, before it is trained: its parameters, its size and its latency beside the teacher's."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tledge import noise
from tledge.cli import screen
from tledge.errors import ModelError, RecipeError, did_you_mean

if TYPE_CHECKING:
    from tledge.recipe.distillation import Shape
    from tledge.stages.ladder import Timed

TEACHER, STUDENT = "teacher", "student"
SCHEMES = ("int8_dynamic",)
LENGTH = 32
DURATION_S = 60.0
_MEGABYTE = 1e6
_NAMES = ("every_second", "first_and_last")


def show(reference: str, layers: str | None, shape: str | None, *, tokenizer: str | None, as_json: bool) -> None:
    """Print what a student of a teacher would be.

    Args:
        reference: a backbone of texts, a language model, a checkpoint, or a run folder.
        layers: what `--student` says.
        shape: what `--student-shape` says.
        tokenizer: of a language model that has none of its own.
        as_json: print JSON.

    Raises:
        RecipeError: an option cannot be read.
        ModelError: there is no such teacher, or no such student of it.
    """
    from tledge import artifacts
    from tledge.bench import setting
    from tledge.bench.compare import Setting
    from tledge.model import student
    from tledge.stages import ladder

    wanted = None if layers is None else _layers(layers)
    asked = None if shape is None else _shape(shape)
    progress = screen.bars()
    with noise.to(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        found = student.load_teacher(_place(reference), tokenizer=tokenizer)
        teacher = found.module
        chosen = None if asked else student.choose_layers(wanted, student.n_blocks(teacher), key="--student")
        made = student.of_shape(teacher, asked, 0) if asked else student.from_layers(teacher, chosen or ())
        at = Setting(length=min(LENGTH, found.max_length - found.decodes))
        graphs = ladder.timed(
            {TEACHER: lambda: teacher, STUDENT: lambda: made},
            export_to=Path(folder),
            schemes=SCHEMES,
            at=at,
            duration_s=DURATION_S,
            progress=progress,
        )
    sizes = {name: student.describe(model) for name, model in ((TEACHER, teacher), (STUDENT, made))}
    facts = {
        "teacher": reference,
        "architecture": type(getattr(teacher, "backbone", teacher)).__name__,
        "n_layers": student.n_blocks(teacher),
        "student": {
            "layers": None if chosen is None else list(chosen),
            "shape": None if asked is None else asked.model_dump(exclude_none=True),
            "n_layers": student.n_blocks(made),
            "parameters": sizes[STUDENT].parameters,
            "share": sizes[STUDENT].parameters / sizes[TEACHER].parameters,
            "size_mb": sizes[STUDENT].size_bytes / _MEGABYTE,
        },
        "teacher_parameters": sizes[TEACHER].parameters,
        "teacher_size_mb": sizes[TEACHER].size_bytes / _MEGABYTE,
        "measured_at": setting(at.batch, at.length, at.threads),
        "one_token": found.decodes,
        "graphs": [
            {"model": name, "scheme": each.scheme, "size_mb": each.size_bytes / _MEGABYTE}
            | {"latency": artifacts.to_dict(each.latency)}
            for name, timed in graphs.items()
            for each in timed
        ],
    }
    if as_json:
        screen.as_json(facts)
    else:
        _print(facts, graphs)


def _layers(text: str) -> str | list[int]:
    """A name, or numbers of blocks."""
    if text in _NAMES:
        return text
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise RecipeError(
            f"--student: expected {', '.join(_NAMES)} or numbers of blocks such as 0,2,4, got {text!r}"
            f"{did_you_mean(text, _NAMES)}"
        )
    return [int(part) for part in parts]


def _shape(text: str) -> Shape:
    """Sizes by name."""
    from tledge.recipe.distillation import Shape

    known = list(Shape.model_fields)
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = (each.strip() for each in part.partition("="))
        if name not in known:
            raise RecipeError(
                f"--student-shape: there is no size {name!r}; known are {', '.join(known)}{did_you_mean(name, known)}"
            )
        if not size.isdecimal() or int(size) < 1:
            raise RecipeError(f"--student-shape: expected {name}=N with a whole number from 1 on, got {part.strip()!r}")
        sizes[name] = int(size)
    return Shape(**sizes)


def _place(reference: str) -> str:
    """What is loaded: the teacher's checkpoint of a run folder, or the reference as it is."""
    path = Path(reference)
    if (path / "recipe.yaml").exists():
        checkpoint = path / "train" / "checkpoint"
        if not checkpoint.exists():
            raise ModelError(f"--student: {reference} has no trained teacher yet; run: tledge finetune {reference}")
        return str(checkpoint)
    if (path / "bundle.json").exists():
        raise RecipeError(f"--student: {reference} is a bundle; name its run folder, a checkpoint or a backbone")
    return reference


def _print(facts: dict[str, Any], graphs: dict[str, tuple[Timed, ...]]) -> None:
    from tledge.bench.table import megabytes, milliseconds, ratio

    made = facts["student"]
    if made["layers"] is not None:
        what = f"blocks {', '.join(map(str, made['layers']))} of {facts['n_layers']}, counted from 0"
    else:
        what = ", ".join(f"{name} {size}" for name, size in made["shape"].items()) + ", random weights"
    typer.echo(f"{facts['teacher']}: {facts['architecture']}; the student: {what}")
    typer.echo(
        f"{made['parameters']:,} of {facts['teacher_parameters']:,} parameters ({made['share']:.2f}), "
        f"{megabytes(made['size_mb'])} of {megabytes(facts['teacher_size_mb'])} MB in fp32"
    )
    rows = []
    for name, found in graphs.items():
        for each in found:
            known, missing = each.latency.percentiles_ms, each.latency.missing
            figures = (
                milliseconds(known[key]) if key in known else f"needs {missing[key]} runs" for key in ("p50", "p95")
            )
            rows.append((f"{name}, {each.scheme}", megabytes(each.size_bytes / _MEGABYTE), *figures,
                         ratio(each.latency.against)))  # fmt: skip
    screen.table(("untrained graph", "MB", "p50 ms", "p95 ms", f"ratio to {TEACHER}, fp32"), rows)
    step = "; a run is one new token after a past of this length" if facts["one_token"] else ""
    typer.echo(f"measured at {facts['measured_at']}{step}")
