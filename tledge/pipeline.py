"""The order of the rooms: one stage after another on one run folder, each whole or not there at all.

A stage writes into `STAGE.partial` and is renamed to `STAGE` when it is whole. `stages/STAGE.json` holds its key: the
hash of the recipe's sections that it depends on and of the stage before it. A stage whose key still holds is not run
again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import tledge
from tledge import noise, processes, stages
from tledge.artifacts import read_json, write_json
from tledge.errors import MissingExtraError, RecipeError, TledgeError
from tledge.progress import Progress, silent
from tledge.recipe import Recipe, load_recipe, save_recipe
from tledge.stages import Job

# The recipe's sections that each stage depends on, beside the stage before it.
_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "data": ("task", "seed", "data"),
    "train": ("metric", "model", "finetune"),
    "distill": ("distill",),
    "export": ("export",),
    "quantize": ("quantize", "budget", "bench"),
    "bundle": ("name", "bundle"),
    "bench": (),
    "baseline": ("baseline",),
    "report": (),
}
# A stage depends on the one before it, but for these.
_AFTER: Mapping[str, tuple[str, ...]] = {
    "export": ("train", "distill"),
    "baseline": ("train",),
    "report": ("bench", "baseline"),
}
STAGES = tuple(_SECTIONS)
_TOGETHER = ("data", "train")  # what several processes go through; the later stages are the main one's alone
_RESUMES = frozenset({"train", "distill", "baseline"})  # stages that go on inside their half-written folder


def run(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    until: str = "report",
    fp32_only: bool = False,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Run the stages of a recipe, or go on with a run, and give the run folder.

    Args:
        recipe: a recipe, or the path of one.
        out: the run folder; `runs/NAME` by default.
        until: the last stage to run.
        fp32_only: leave the recipe's schemes out this time; the run's own recipe keeps them.
        progress: shows bars.
        say: takes one line for each stage.

    Raises:
        TledgeError: the one that names what the user can mend.
    """
    processes.let_idle_threads_sleep()
    processes.keep_freed_memory()
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("the package 'torch' is not installed; run: pip install 'tledge[train]'")
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    folder = Path(out) if out is not None else Path("runs") / recipe.name
    if processes.is_main():
        _save(recipe, folder)
    if fp32_only:
        recipe = recipe.model_copy(update={"quantize": recipe.quantize.model_copy(update={"schemes": []})})
    job = Job(recipe, folder, progress, say if processes.is_main() else lambda line: None)
    keys: dict[str, str] = {}
    for i, name in enumerate(STAGES[: STAGES.index(until) + 1]):
        if name in ("baseline", "distill") and getattr(recipe, name) is None:
            _forget(folder, name)
            continue
        before = _AFTER.get(name, STAGES[max(0, i - 1) : i])
        keys[name] = _key(name, recipe, [keys.get(each, "") for each in before])
        if not processes.is_main() and name not in _TOGETHER:
            break
        _run_stage(job, name, keys[name])
    return folder


def _save(recipe: Recipe, folder: Path) -> None:
    path = folder / "recipe.yaml"
    with suppress(RecipeError):  # a file that cannot be read is replaced
        if path.exists() and load_recipe(path) == recipe:
            return  # what is written there may be commented
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_recipe(recipe, path)
    except OSError as error:
        raise RecipeError(
            f"the run folder {folder} cannot be written: {error.strerror}; choose another: --out"
        ) from error


def _run_stage(job: Job, name: str, key: str) -> None:
    aside = job.folder / f"{name}.partial"
    with _main_first() if name in _TOGETHER else nullcontext():
        if _is_whole(job, name, key):
            job.say(f"{name}: already done")
            return
        if processes.is_main():
            _prepare(job, name, key)
        started = time.monotonic()
        if name != "train":
            line = _build(job, name, aside)
            _finish(job, name, key, time.monotonic() - started, line)
            return
    line = _build(job, name, aside)
    with _main_first():
        pass  # the others may still be reading the folder that is renamed now
    if processes.is_main():
        _finish(job, name, key, time.monotonic() - started, line)


def _main_first() -> AbstractContextManager[None]:
    if processes.count() == 1:
        return nullcontext()
    from tledge.train import main_first

    return main_first()


def _build(job: Job, name: str, aside: Path) -> str:
    with _log(job, name) as log, noise.to(log):
        try:
            line: str = stages.load(name, job).stage(job, aside)
            return line
        except TledgeError as error:
            log.write(f"{type(error).__name__}: {error}\n")
            raise
        except Exception:
            log.write(traceback.format_exc())
            raise


def _is_whole(job: Job, name: str, key: str) -> bool:
    """A stage is whole when nothing is half-written beside it and it was made for this key."""
    return (
        job.stage(name).exists()
        and not (job.folder / f"{name}.partial").exists()
        and _record(job, name).get("key") == key
    )


def _record(job: Job, name: str) -> dict[str, Any]:
    path = job.folder / "stages" / f"{name}.json"
    return dict(read_json(path)) if path.exists() else {}


def _prepare(job: Job, name: str, key: str) -> None:
    """An empty folder to write into; for a stage that resumes, the half-written one if it was made for this key."""
    aside = job.folder / f"{name}.partial"
    if not (name in _RESUMES and aside.exists() and _record(job, name).get("key") == key):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
    (job.folder / "stages").mkdir(exist_ok=True)
    write_json(job.folder / "stages" / f"{name}.json", {"key": key})


def _finish(job: Job, name: str, key: str, seconds: float, line: str) -> None:
    home, aside = job.stage(name), job.folder / f"{name}.partial"
    record = {"key": key, "seconds": round(seconds, 1), "tledge": tledge.__version__, "result": line}
    write_json(job.folder / "stages" / f"{name}.json", record)
    shutil.rmtree(home, ignore_errors=True)
    os.replace(aside, home)
    job.say(f"{name}: {line} ({seconds:.1f} s)")


def _forget(folder: Path, name: str) -> None:
    """Remove what an earlier recipe of this run asked for and this one does not."""
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "stages" / f"{name}.json").unlink(missing_ok=True)


def _key(name: str, recipe: Recipe, before: Sequence[str]) -> str:
    """Hash of what a stage depends on: sections of the recipe, the files they name, and the stages before it."""
    whole = recipe.model_dump(mode="json")
    parts: list[Any] = [name, list(before), [whole[section] for section in _SECTIONS[name]]]
    if name == "data":
        rows = recipe.data
        parts.append([_stamp(source) for source in (rows.train, rows.validation, rows.test, rows.unlabelled)])
    if name == "data" and recipe.is_language_model:  # whose blocks are of its own tokens
        model = recipe.model
        parts.append([model.backbone, model.revision, model.tokenizer, model.max_length])
        parts.append([_stamp(place) for place in (model.backbone, model.tokenizer)])
    if name == "train":
        parts.append([_stamp(place) for place in (recipe.model.backbone, recipe.model.weights, recipe.model.tokenizer)])
    if name == "distill" and recipe.distill is not None:
        student = recipe.distill.student
        parts.append([_stamp(student.backbone), _stamp(student.weights)])
        parts.append(None if student.budget is None else whole["bench"])  # candidates are timed at its first setting
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _stamp(source: object) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the local files behind a source; empty for hub ids, fractions and packages.

    Those of a folder are what a walk finds, without following links to other folders.
    """
    path = Path(source) if isinstance(source, str) else None
    if path is None or not path.exists():
        return []
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [(p.relative_to(path).as_posix(), (stat := p.stat()).st_size, stat.st_mtime_ns) for p in files]


@contextmanager
def _log(job: Job, name: str) -> Iterator[TextIO]:
    path = job.folder / "logs" / f"{name}.log"
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as log:
        log.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')} tledge {tledge.__version__}\n")
        yield log


def summary(folder: Path, *, until: str = "report") -> dict[str, str]:
    """Where a run's results up to a stage are, by what they are, and with the report its one-sentence verdict."""
    places = {
        "train": "checkpoint",
        "distill": "checkpoint",
        "export": "model.onnx",
        "bundle": "",
        "report": "report.html",
    }
    names = {"train": "checkpoint", "distill": "student", "export": "graph"}
    made = [name for name in places if STAGES.index(name) <= STAGES.index(until) and (folder / name).exists()]
    found = {"run": str(folder)} | {names.get(name, name): str(folder / name / places[name]) for name in made}
    verdict = read_json(folder / "stages" / f"{until}.json").get("result", "") if until == "report" else ""
    return found | ({"verdict": verdict} if verdict else {})
