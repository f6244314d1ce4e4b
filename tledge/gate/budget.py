"""The budget: limits that a bundle is held to, read from YAML. `docs/gate.md` has every key."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tledge import yaml12
from tledge.errors import RecipeError, did_you_mean
from tledge.yaml12 import KeyPath

ANY = "any"
"""Stands for every machine."""
SPEEDUP, METRIC_GAIN = 5.0, 0.1

_PERCENTILE = re.compile(r"p(\d+(?:\.\d+)?)_ms")
_AMOUNTS = ("load_ms", "size_mb", "peak_memory_mb", "max_metric")
_SHARES = ("max_metric_drop", "min_metric", "max_parity_error", "max_slowdown")
LIMITS = ("p95_ms", *_AMOUNTS, *_SHARES)
"""The limits; `p95_ms` stands for every percentile, such as `p50_ms` or `p99.9_ms`."""
_PLACE = ("variant", "provider", "batch", "length", "threads")
_WHOLE = ("machine", "metric", "anomalous_speedup", "anomalous_metric_gain", "overflow", "at", "evaluation")
REFUSE, ALLOW = "refuse", "allow"
"""What is done with int8 weights that could overflow on some processors."""
COLUMNS = ("text", "text_pair", "negative", "question", "context", "image", "label", "objects")
"""The columns that tasks have."""
_ROWS = ("rows", *COLUMNS, "label_names", "label_separator")


@dataclass(frozen=True, slots=True)
class Scope:
    """What some limits hold for; `limits` maps `p95_ms`, `size_mb` ... to the limit.

    `variant` is `None` for the chosen one, `provider` for the one asked for on the command line, or else the CPU, and
    `length` for 32 tokens, or fewer where the model takes fewer.
    """

    limits: Mapping[str, float]
    variant: str | None = None
    provider: str | None = None
    batch: int = 1
    length: int | None = None
    threads: int = 1


@dataclass(frozen=True, slots=True)
class RowsFile:
    """Labelled rows for evaluation, and how to read them.

    `columns` has the file's column for each of the task's that is called otherwise there. `label_names` renames labels,
    from the file's to the bundle's, and `label_separator` parts several in one cell.
    """

    rows: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    label_names: Mapping[str, str] = field(default_factory=dict)
    label_separator: str = "|"


@dataclass(frozen=True, slots=True)
class Budget:
    """What a bundle is held to, at one scope or several.

    Limits on time hold for `machines`, fingerprints or `ANY`. `metric` is `None` for the task's. `overflow` is `REFUSE`
    or `ALLOW`.
    """

    scopes: tuple[Scope, ...]
    machines: tuple[str, ...] = ()
    metric: str | None = None
    anomalous_speedup: float = SPEEDUP
    anomalous_metric_gain: float = METRIC_GAIN
    evaluation: RowsFile | None = None
    overflow: str = REFUSE

    def holds_for(self, fingerprint: str) -> bool:
        """Whether limits on time count on a machine."""
        return ANY in self.machines or (bool(fingerprint) and fingerprint in self.machines)


def percentile_of(limit: str) -> float | None:
    """The percent of a limit such as `p95_ms`, `None` for other limits."""
    match = _PERCENTILE.fullmatch(limit)
    return float(match[1]) if match else None


def load(path: str | Path) -> Budget:
    """The budget in a YAML file.

    Raises:
        RecipeError: the file cannot be read, or keys or values are wrong: one line for each mistake, with its place.
    """
    path = Path(path)
    values, lines = yaml12.read(yaml12.text_of(path, "budget"), lambda line, column: f"{path}:{line}:{column}")
    if values is None:
        raise RecipeError(f"{path}: the file is empty; expected a budget with a limit, such as p95_ms: 12")
    if not isinstance(values, dict):
        raise RecipeError(
            f"{path}:{lines[()][0]}: expected keys with values, such as p95_ms: 12, got {yaml12.shown(values)}"
        )
    reader = _Reader(path, lines)
    budget = reader.budget(values)
    if not reader.problems and not any(scope.limits for scope in budget.scopes):
        reader.problems.append(f"{path}: there is no limit; give at least one of {', '.join(LIMITS)}")
    if reader.problems:
        raise RecipeError("\n".join(reader.problems))
    return budget


class _Reader:
    """Takes plain values apart and gathers one line for each mistake."""

    def __init__(self, path: Path, lines: Mapping[KeyPath, tuple[int, int]]) -> None:
        self._path, self._lines = path, lines
        self.problems: list[str] = []

    def budget(self, values: Mapping[str, Any]) -> Budget:
        self._known(values, (), (*LIMITS, *_PLACE, *_WHOLE))
        top = self._scope(values, (), Scope({}))
        scopes = [top] if top.limits else []
        for path, entry in self._entries(values):
            self._known(entry, path, (*LIMITS, *_PLACE))
            scopes.append(self._scope(entry, path, top))
        speedup = self._number(values, (), "anomalous_speedup", low=1)
        gain = self._number(values, (), "anomalous_metric_gain", high=1)
        return Budget(
            tuple(scopes),
            machines=self._machines(values),
            metric=self._word(values, (), "metric"),
            anomalous_speedup=SPEEDUP if speedup is None else speedup,
            anomalous_metric_gain=METRIC_GAIN if gain is None else gain,
            evaluation=self._evaluation(values),
            overflow=self._one_of(values, "overflow", (REFUSE, ALLOW)),
        )

    def _one_of(self, values: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
        """A word among some, by default the first."""
        value = values.get(key, known[0])
        if value not in known:
            self._say((key,), f"expected {' or '.join(known)}, got {yaml12.shown(value)}")
            return known[0]
        return str(value)

    def _scope(self, values: Mapping[str, Any], path: KeyPath, above: Scope) -> Scope:
        """A scope that inherits what it does not say; a limit of null, below the top, is lifted."""
        limits = dict(above.limits)
        for key in values:
            if not (key in LIMITS or _PERCENTILE.fullmatch(key)):
                continue
            if path and values[key] is None:
                limits.pop(key, None)
                continue
            value = self._number(values, path, key, high=1 if key in _SHARES else math.inf)
            if value is not None:
                limits[key] = value
        return Scope(
            limits,
            variant=self._word(values, path, "variant") or above.variant,
            provider=self._word(values, path, "provider") or above.provider,
            batch=self._count(values, path, "batch") or above.batch,
            length=self._count(values, path, "length") or above.length,
            threads=self._count(values, path, "threads") or above.threads,
        )

    def _entries(self, values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
        listed = values.get("at", [])
        if not isinstance(listed, list):
            self._say(("at",), f"expected a list, each entry such as - variant: fp32, got {yaml12.shown(listed)}")
            return
        for i, entry in enumerate(listed):
            if isinstance(entry, dict) and entry:
                yield ("at", i), entry
            else:
                self._say(("at", i), f"expected keys with values, such as batch: 8, got {yaml12.shown(entry)}")

    def _machines(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        if "machine" not in values:
            return ()
        given = values["machine"]
        named = given if isinstance(given, list) else [given]
        wrong = [name for name in named if not isinstance(name, str) or not name.strip()]
        if wrong or not named:
            got = wrong[0] if wrong else named
            quotes = "; write it in quotes" if isinstance(got, int | float) else ""
            self._say(("machine",), f"expected a fingerprint, a list of them, or any, got {yaml12.shown(got)}{quotes}")
            return ()
        return tuple(name.strip() for name in named)

    def _evaluation(self, values: Mapping[str, Any]) -> RowsFile | None:
        if "evaluation" not in values:
            return None
        path: KeyPath = ("evaluation",)
        given = values["evaluation"]
        if not isinstance(given, dict):
            self._say(path, f"expected keys with values, such as rows: test.csv, got {yaml12.shown(given)}")
            return None
        self._known(given, path, _ROWS)
        rows = self._word(given, path, "rows")
        if "rows" not in given:
            self._say(path, "missing key rows; add the file of labelled rows, such as rows: test.csv")
        if "image" in given and ("text" in given or "text_pair" in given):
            self._say((*path, "image"), "there is text too; keep the one that the bundle takes")
        renamed = given.get("label_names", {})
        if not isinstance(renamed, dict) or not all(isinstance(name, str) for name in renamed.values()):
            self._say(
                (*path, "label_names"),
                f"expected label names by label, such as 0: negative, got {yaml12.shown(renamed)}",
            )
            renamed = {}
        columns = {name: self._word(given, path, name) for name in COLUMNS}
        return RowsFile(
            self._path.parent / Path(rows or "").expanduser(),
            {name: column for name, column in columns.items() if column is not None},
            renamed,
            self._word(given, path, "label_separator") or "|",
        )

    def _number(
        self, values: Mapping[str, Any], path: KeyPath, key: str, *, low: float = 0, high: float = math.inf
    ) -> float | None:
        if key not in values:
            return None
        percent = percentile_of(key)
        if percent is not None and not 50 <= percent < 100:
            self._say((*path, key), "a percentile lies from p50 to below p100, such as p95_ms")
            return None
        value = values[key]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high or math.isinf(value):
            share = "; 2 % is 0.02" if high == 1 and is_number and value > 1 else ""
            range_ = f"from {low:g} to {high:g}" if high < math.inf else f"of {low:g} or more"
            self._say((*path, key), f"expected a number {range_}, got {yaml12.shown(value)}{share or _quotes(value)}")
            return None
        return float(value)

    def _count(self, values: Mapping[str, Any], path: KeyPath, key: str) -> int | None:
        value = values.get(key)
        if key in values and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            self._say((*path, key), f"expected a whole number of 1 or more, got {yaml12.shown(value)}{_quotes(value)}")
            return None
        return value

    def _word(self, values: Mapping[str, Any], path: KeyPath, key: str) -> str | None:
        value = values.get(key)
        if key in values and (not isinstance(value, str) or not value.strip()):
            quotes = "; write it in quotes" if isinstance(value, int | float) else ""
            self._say((*path, key), f"expected text, got {yaml12.shown(value)}{quotes}")
            return None
        return value

    def _known(self, values: Mapping[str, Any], path: KeyPath, known: tuple[str, ...]) -> None:
        for key in values:
            if key not in known and not ("p95_ms" in known and _PERCENTILE.fullmatch(key)):
                hint = did_you_mean(key, known)
                self._say((*path, key), f"unknown key; known keys are {', '.join(sorted(known))}{hint}")

    def _say(self, path: KeyPath, problem: str) -> None:
        line = self._lines.get(path, self._lines[()])[0]
        name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
        self.problems.append(f"{self._path}:{line}: {name}: {problem}")


def _quotes(value: object) -> str:
    if isinstance(value, str) and isinstance(yaml12.read(value, _nowhere)[0], int | float):
        return "; remove the quotes"
    return ""


_nowhere: Callable[[int, int], str] = lambda line, column: ""  # noqa: E731
