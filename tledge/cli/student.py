"""What a student would be, before it is trained: its parameters, its size and its latency beside the teacher's."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tledge import captured
from tledge.cli import screen
from tledge.errors import ModelError, RecipeError, did_you_mean

if TYPE_CHECKING:
    from tledge.model.student import Teacher
    from tledge.recipe.distillation import Shape
    from tledge.stages.student_costs import Timed

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
    from tledge.bench.compare import Setting
    from tledge.model import student
    from tledge.stages import student_costs

    wanted = None if layers is None else _layers(layers)
    asked = None if shape is None else _shape(shape)
    progress = screen.bars()
    with captured.to(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        teacher = student.load_teacher(_place(reference), tokenizer=tokenizer)
        what: dict[str, Any]
        if asked is None:
            chosen = student.choose_layers(wanted, student.n_blocks(teacher.module), key="--student")
            what, made = {"layers": list(chosen)}, student.from_layers(teacher.module, chosen)
        else:
            what, made = {"shape": asked.model_dump(exclude_none=True)}, student.of_shape(teacher.module, asked, 0)
        at = Setting(length=min(LENGTH, teacher.max_length - teacher.decodes))
        graphs = student_costs.timed(
            {TEACHER: lambda: teacher.module, STUDENT: lambda: made},
            export_to=Path(folder),
            schemes=SCHEMES,
            at=at,
            duration_s=DURATION_S,
            progress=progress,
        )
    facts = _facts(reference, teacher, made, what, graphs)
    if as_json:
        screen.as_json(facts)
    else:
        _print(facts, graphs)


def _facts(
    reference: str, teacher: Teacher, made: Any, what: dict[str, Any], graphs: dict[str, tuple[Timed, ...]]
) -> dict[str, Any]:
    from tledge import artifacts
    from tledge.bench import setting
    from tledge.model import student

    sizes = {name: student.describe(each) for name, each in ((TEACHER, teacher.module), (STUDENT, made))}
    timed = graphs[STUDENT][0].latency
    return {
        "teacher": {
            "reference": reference,
            "architecture": type(getattr(teacher.module, "backbone", teacher.module)).__name__,
            "n_layers": student.n_blocks(teacher.module),
            "parameters": sizes[TEACHER].parameters,
            "size_mb": sizes[TEACHER].size_bytes / _MEGABYTE,
        },
        "student": {
            **what,
            "n_layers": student.n_blocks(made),
            "parameters": sizes[STUDENT].parameters,
            "share": sizes[STUDENT].parameters / sizes[TEACHER].parameters,
            "size_mb": sizes[STUDENT].size_bytes / _MEGABYTE,
        },
        "measured_at": setting(timed.batch, timed.sequence, timed.threads),
        "one_token": teacher.decodes,
        "graphs": [
            {"model": name, "scheme": each.scheme, "size_mb": each.size_bytes / _MEGABYTE}
            | {"latency": artifacts.to_dict(each.latency)}
            for name, found in graphs.items()
            for each in found
        ],
    }


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
    from tledge.bench.table import megabytes, ratio

    teacher, made = facts["teacher"], facts["student"]
    if "layers" in made:
        what = f"blocks {', '.join(map(str, made['layers']))} of {teacher['n_layers']}, counted from 0"
    else:
        what = ", ".join(f"{name} {size}" for name, size in made["shape"].items()) + ", random weights"
    typer.echo(f"{teacher['reference']}: {teacher['architecture']}; the student: {what}")
    typer.echo(
        f"{made['parameters']:,} of {teacher['parameters']:,} parameters ({made['share']:.2f}), "
        f"{megabytes(made['size_mb'])} of {megabytes(teacher['size_mb'])} MB in fp32"
    )
    rows = [
        (f"{name}, {each.scheme}", megabytes(each.size_bytes / _MEGABYTE), *_times(each), ratio(each.latency.against))
        for name, found in graphs.items()
        for each in found
    ]
    screen.table(("untrained graph", "MB", "p50 ms", "p95 ms", f"ratio to {TEACHER}, fp32"), rows)
    step = "; a run is one new token after a past of this length" if facts["one_token"] else ""
    typer.echo(f"measured at {facts['measured_at']}{step}")


def _times(graph: Timed) -> list[str]:
    """The median and the 95th percentile, or how many runs they need."""
    from tledge.bench.table import milliseconds

    known, missing = graph.latency.percentiles_ms, graph.latency.missing
    return [milliseconds(known[key]) if key in known else f"needs {missing[key]}" for key in ("p50", "p95")]
