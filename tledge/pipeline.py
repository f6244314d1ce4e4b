"""The order of the rooms: one stage after another on one run folder, each whole or not there at all.

A stage writes into `STAGE.partial` and is renamed to `STAGE` when it is whole. `stages/STAGE.json` holds its key: the
hash of the recipe's sections that it depends on and of the stage before it. A stage whose key still holds, whose files
are as they were written, and which read what the stages before it left is not run again. One process at a time works on
a run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import tledge
from tledge import captured, hub, processes, run_folder, stages, tasks
from tledge.artifacts import LabelCurve, read_json, write_json
from tledge.errors import InputError, MissingExtraError, RecipeError, TledgeError
from tledge.progress import Progress, silent
from tledge.recipe import Recipe, load_recipe, save_recipe
from tledge.stages import Job

# The recipe's sections that each stage depends on, beside the stage before it.
_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "data": ("task", "seed", "data"),
    "train": ("metric", "model", "finetune", "adapt"),
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
# What a stage reads of those after it, where an earlier run left them.
_AHEAD: Mapping[str, tuple[str, ...]] = {"bundle": ("bench", "baseline")}
STAGES = tuple(_SECTIONS)
CURVE = "curve"
"""The folder inside a run that has its metric over labelled rows."""
_TOGETHER = ("data", "train")  # what several processes go through; the later stages are the main one's alone
_HOLDERS_WORD_S = 0.5  # how long to wait for a run: by then the process that holds it has written down who it is
_TIMES = ("distill", "quantize", "bench")  # stages that time graphs; of students where they have a budget
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
    own = recipe
    if fp32_only:
        recipe = recipe.model_copy(update={"quantize": recipe.quantize.model_copy(update={"schemes": []})})
    job = Job(recipe, folder, progress, say if processes.is_main() else lambda line: None)
    _require_own(folder)
    with _held(folder):
        if fp32_only and _is_current(own, folder, "quantize"):
            job = Job(own, folder, job.progress, job.say)  # all variants are there, and stay
        with _recipe_saved(own, folder) if processes.is_main() else nullcontext():
            if processes.is_main() and not job.stage("train").exists():
                hub.check(recipe.model.backbone, kind=tasks.load(recipe.task).STARTER, revision=recipe.model.revision)
            if processes.is_main():
                _require_provider(job, until)
            _run_stages(job, until)
    return folder


def curve(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    shots: Sequence[int],
    seeds: int,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[LabelCurve, Path]:
    """The metric over the rows of each label that train, and the folder that it is kept in; goes on where it was.

    The rows are read once into that folder, which is a run of its own inside the run folder: the test rows are the same
    for all trainings.

    Args:
        recipe: its `data.shots` is left out.
        out: the run folder; `runs/NAME` by default.
        shots: rows of each label, rising.
        seeds: trainings of each.
        progress: shows bars.
        say: takes one line for each stage.

    Raises:
        TledgeError: the one that names what the user can mend.
    """
    from tledge.stages import curve as of_labels

    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"shots": None})})
    folder = (Path(out) if out is not None else Path("runs") / recipe.name) / CURVE
    job = Job(recipe, folder, progress, say)
    of_labels.require(job)
    run(recipe, folder, until="data", progress=progress, say=say)
    with _held(folder), _log(job, CURVE) as log, captured.to(log):
        return of_labels.measure(job, shots, seeds), folder


def _require_provider(job: Job, until: str) -> None:
    """Refuse, before hours of training, a provider that does not start here where a stage is to time graphs on it.

    Raises:
        RecipeError: it does not start.
    """
    provider = job.recipe.bench.provider
    if provider == "cpu":
        return
    plans = dict(_plans(job.recipe, until))
    if job.recipe.distill is None or job.recipe.distill.student.budget is None:
        plans.pop("distill", None)
    if all(_why_again(job, name, plans[name]) == "" for name in _TIMES if name in plans):
        return
    from tledge.runtime.session import require_provider

    try:
        require_provider(provider)
    except InputError as error:
        raise RecipeError(f"bench.provider: {error}") from error


def _require_own(folder: Path) -> None:
    """Refuse a folder that holds something in the place of a stage, or a recipe, that no run wrote.

    Raises:
        RecipeError: it does.
    """
    for name in ("recipe.yaml", *STAGES):
        told = folder / run_folder.RECORDS / ("" if name == "recipe.yaml" else f"{name}.json")
        if os.path.lexists(folder / name) and not told.exists():
            raise RecipeError(
                f"the run folder {folder} holds {name!r}, which is no run's and would be replaced; choose another "
                "folder: --out"
            )


def _is_current(recipe: Recipe, folder: Path, until: str) -> bool:
    """Whether every stage of a run up to one is whole, and of this recipe."""
    job = Job(recipe, folder)
    return all(_why_again(job, name, plan) == "" for name, plan in _plans(recipe, until))


@contextmanager
def _recipe_saved(recipe: Recipe, folder: Path) -> Iterator[None]:
    """The recipe as the run's own; the one before it again where an error comes before any stage was made."""
    path = folder / "recipe.yaml"
    before = path.read_bytes() if path.exists() else None
    states = {name: run_folder.record(folder, name) for name in STAGES}
    _save(recipe, folder)
    try:
        yield
    except TledgeError:
        if before is not None and states == {name: run_folder.record(folder, name) for name in STAGES}:
            path.write_bytes(before)
        raise


def _run_stages(job: Job, until: str) -> None:
    asked = dict(_plans(job.recipe, until))
    for name in STAGES[: STAGES.index(until) + 1]:
        if name not in asked:
            _forget(job.folder, name)
            continue
        if not processes.is_main() and name not in _TOGETHER:
            break
        _run_stage(job, name, asked[name])
    if processes.is_main():
        _tell_stale(job, until)


def _plans(recipe: Recipe, until: str) -> Iterator[tuple[str, _Plan]]:
    """The stages that a recipe asks for up to one, in their order, with what each is to be made of."""
    keys: dict[str, str] = {}
    for i, name in enumerate(STAGES[: STAGES.index(until) + 1]):
        if name in ("baseline", "distill") and getattr(recipe, name) is None:
            continue
        after = {each: keys[each] for each in _AFTER.get(name, STAGES[max(0, i - 1) : i]) if each in keys}
        plan = _plan(name, recipe, after)
        keys[name] = plan.key
        yield name, plan


def _tell_stale(job: Job, until: str) -> None:
    """Say which later stages are of an older state of this run, and put a report of it aside."""
    later = [name for name in STAGES[STAGES.index(until) + 1 :] if job.stage(name).exists()]
    old = [name for name in later if run_folder.stale(job.folder, name)]
    if not old:
        return
    if "report" in old:
        aside = job.folder / "report.old"
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(job.stage("report"), aside)
    kept = "; its report is now report.old" if "report" in old else ""
    job.say(
        f"{', '.join(old)}: of an older state of this run{kept}; make {'it' if len(old) == 1 else 'them'} anew with: "
        f"tledge run {job.folder}"
    )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a run for this process, or end where another one does."""
    if not processes.is_main():
        yield
        return
    from filelock import FileLock, Timeout

    home = folder / run_folder.RECORDS
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(
            f"the run folder {folder} cannot be written: {error.strerror}; choose another: --out"
        ) from error
    holder = home / "held-by.json"
    try:
        with FileLock(home / "lock", timeout=_HOLDERS_WORD_S):
            write_json(holder, {"process": os.getpid(), "host": platform.node(), "since": _now()})
            try:
                yield
            finally:
                holder.unlink(missing_ok=True)
    except Timeout as error:
        told = run_folder.record(folder, "held-by")
        who = f"process {told['process']} on {told['host']} since {told['since']}" if told else "another process"
        raise RecipeError(
            f"the run {folder} is being worked on by {who}; wait until it has ended, or choose another folder: --out"
        ) from error


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a stage is to be made of: `key` is the hash of all of it."""

    key: str
    after: Mapping[str, str]
    settings: Mapping[str, Any]


def _save(recipe: Recipe, folder: Path) -> None:
    path = folder / "recipe.yaml"
    with suppress(RecipeError):  # a file that cannot be read is replaced
        if path.exists() and load_recipe(path) == recipe:
            return  # what is written there may be commented
    save_recipe(recipe, path)


def _run_stage(job: Job, name: str, plan: _Plan) -> None:
    aside = job.folder / _partial(name)
    with _main_first() if name in _TOGETHER else nullcontext():
        why = _why_again(job, name, plan)
        if why == "":
            job.say(f"{name}: already done")
            if processes.is_main():
                _drop_partial(job.folder, name)
            return
        if processes.is_main():
            if why:
                job.say(f"{name}: again, since {why}")
            _prepare(job, name, plan)
            if name in _RESUMES and (place := _reached(aside)):
                job.say(f"{name}: goes on {place}")
        started = time.monotonic()
        if name != "train":
            line = _build(job, name, aside)
            _finish(job, name, plan, time.monotonic() - started, line)
            return
    line = _build(job, name, aside)
    with _main_first():
        pass  # the others may still be reading the folder that is renamed now
    if processes.is_main():
        _finish(job, name, plan, time.monotonic() - started, line)


def _main_first() -> AbstractContextManager[None]:
    if processes.count() == 1:
        return nullcontext()
    from tledge.train import main_first

    return main_first()


def _build(job: Job, name: str, aside: Path) -> str:
    with _log(job, name) as log, captured.to(log):
        try:
            line: str = stages.load(name).stage(job, aside)
            return line
        except TledgeError as error:
            log.write(f"{type(error).__name__}: {error}\n")
            raise
        except Exception:
            log.write(traceback.format_exc())
            raise


def _why_again(job: Job, name: str, plan: _Plan) -> str | None:
    """Why a stage is made again: empty where it is whole and of this plan.

    `None` where that needs no word: it was never whole, or it only follows a stage before it that was made again.
    """
    found = run_folder.record(job.folder, name)
    if not job.stage(name).exists() or "files" not in found:
        return None
    if found.get("key") != plan.key:
        changed = run_folder.changes(found.get("settings") or {}, plan.settings)
        follows = (found.get("after") or {}) != plan.after
        return changed or (None if follows else "files that it reads have changed")
    if run_folder.stale(job.folder, name):
        return None
    if damaged := run_folder.damaged(job.stage(name), found["files"]):
        return damaged
    if "named" in found and found["named"] != _named(job, job.stage(name)):
        return "files that its rows name have changed"
    return ""


def _prepare(job: Job, name: str, plan: _Plan) -> None:
    """An empty folder to write into; for a stage that resumes, the half-written one if it was made for this key."""
    aside = job.folder / _partial(name)
    half = _partial(name)
    same = run_folder.record(job.folder, half).get("key") == plan.key and not run_folder.stale(job.folder, half)
    if not (name in _RESUMES and aside.is_dir() and same):
        _clear(aside)
        aside.mkdir()
    _write_record(job, half, plan, {})
    for ahead in _AHEAD.get(name, ()):
        found = run_folder.record(job.folder, ahead).get("files")
        if found is None or run_folder.damaged(job.stage(ahead), found):
            _clear(job.stage(ahead))


def _reached(aside: Path) -> str:
    """From where a training goes on in a stage's half-written folder, in words; empty where it starts."""
    reached = [path for path in aside.rglob("resume.json") if not (path.parent / "fitted.json").exists()]
    done = [path.parent.relative_to(aside).as_posix() for path in sorted(aside.rglob("fitted.json"))]
    places = []
    if reached:
        newest = max(reached, key=lambda path: path.stat().st_mtime_ns)
        state, of = read_json(newest), newest.parent.relative_to(aside).as_posix()
        places.append(f"after step {state['step']:,} of {state['of']:,} in {of}")
    if done:
        places.append(f"with {', '.join(done)} done")
    return ", ".join(places)


def _write_record(job: Job, name: str, plan: _Plan, facts: Mapping[str, Any]) -> None:
    home = job.folder / run_folder.RECORDS
    home.mkdir(exist_ok=True)
    read = {each: run_folder.state(job.folder, each) for each in plan.after}
    planned = {"key": plan.key, "after": plan.after, "read": read, "settings": plan.settings}
    write_json(home / f"{name}.json", planned | dict(facts))


def _finish(job: Job, name: str, plan: _Plan, seconds: float, line: str) -> None:
    home, aside = job.stage(name), job.folder / _partial(name)
    facts: dict[str, Any] = {"seconds": round(seconds, 1), "tledge": tledge.__version__, "result": line}
    if name == "data":
        facts["named"] = _named(job, aside)
    _write_record(job, name, plan, facts | {"files": run_folder.files(aside)})
    _clear(home)
    os.replace(aside, home)
    _drop_partial(job.folder, name)
    job.say(f"{name}: {line} ({seconds:.1f} s)")


def _forget(folder: Path, name: str) -> None:
    """Remove what an earlier recipe of this run asked for and this one does not."""
    _clear(folder / name)
    (folder / run_folder.RECORDS / f"{name}.json").unlink(missing_ok=True)
    _drop_partial(folder, name)


def _partial(name: str) -> str:
    """What a stage is called while it is half-written: its folder, and its record, beside those of the whole one."""
    return f"{name}.partial"


def _drop_partial(folder: Path, name: str) -> None:
    _clear(folder / _partial(name))
    (folder / run_folder.RECORDS / f"{_partial(name)}.json").unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Remove a folder, or what lies in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _plan(name: str, recipe: Recipe, after: Mapping[str, str]) -> _Plan:
    """What a stage depends on: sections of the recipe, the files they name, and the stages before it."""
    whole = recipe.model_dump(mode="json")
    settings = {section: whole[section] for section in _SECTIONS[name]}
    parts: list[Any] = [name, dict(after), settings]
    if name == "data":
        rows = recipe.data
        parts.append(
            [_stamp(source) for source in (rows.train, rows.validation, rows.test, rows.unlabelled, rows.documents)]
        )
        for values, places in stages.rows.load(tasks.load(recipe.task).ROWS).depends_on(recipe):
            parts += [values, [_stamp(place) for place in places]]
    if name == "train":
        parts.append([_stamp(place) for place in (recipe.model.backbone, recipe.model.weights, recipe.model.tokenizer)])
    if name == "distill" and recipe.distill is not None:
        student = recipe.distill.student
        parts.append([_stamp(student.backbone), _stamp(student.weights)])
        parts.append(None if student.budget is None else whole["bench"])  # candidates are timed at its first setting
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return _Plan(key, after, settings)


def _named(job: Job, folder: Path) -> str:
    """The hash of the sizes and times of the files that rows only name, such as the images behind a table's paths."""
    stamps = [(path, _stamp(path)) for path in job.rows.files(folder)]
    return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()


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
        log.write(f"--- {_now()} tledge {tledge.__version__}\n")
        yield log


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


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
