"""What a run folder tells of its stages: `stages/NAME.json`, and whether a stage is of what is there now.

A record has the stage's `key`, the hash of what it depends on; of the stages that it read their keys, `after`, and
hashes of what they had left, `read`; `settings`, what the recipe said; and `files`, what it left itself, with sizes and
SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tledge.digest import sha256

RECORDS = "stages"
_SHOWN = 3
"""Changes that are named at most."""


def record(run: Path, name: str) -> dict[str, Any]:
    """What is written down of a stage; empty where nothing is, or nothing that can be read."""
    try:
        found = json.loads((run / RECORDS / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def stale(run: Path, name: str) -> str:
    """The stage before which ran again after this one was made, so that it is of other weights or data; else empty.

    Stages of older releases do not tell, and count as current.
    """
    waiting, seen = [name], set()
    while waiting:
        each = waiting.pop()
        found = record(run, each)
        after, read = found.get("after"), found.get("read") or {}
        for before, key in after.items() if isinstance(after, dict) else ():
            if record(run, before).get("key") != key or read.get(before, now := state(run, before)) != now:
                return str(before)
            if before not in seen:
                seen.add(before)
                waiting.append(before)
    return ""


def state(run: Path, name: str) -> str:
    """The hash of what a stage left, which differs when it ran again and gave something else."""
    found = json.dumps(record(run, name).get("files"), sort_keys=True)
    return hashlib.sha256(found.encode()).hexdigest()


def files(folder: Path) -> dict[str, list[Any]]:
    """Size and SHA-256 of each file in a stage's folder, by its relative name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = [path.stat().st_size, sha256(path)]
    return found


def damaged(folder: Path, expected: Mapping[str, Any]) -> str:
    """The first file of a stage that is not as it was written; empty when all are. What was added does not count."""
    for name, facts in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{folder.name}/{name} is missing"
        if path.stat().st_size != facts[0]:
            return f"{folder.name}/{name} has another size than when it was written"
        if sha256(path) != facts[1]:
            return f"{folder.name}/{name} has another content than when it was written"
    return ""


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Which settings changed from what to what: `finetune.epochs was 3, is 5`; empty where none did."""
    old, new = dict(_flat(before)), dict(_flat(after))
    found = [
        f"{key} was {_shown(old, key)}, is {_shown(new, key)}"
        for key in dict.fromkeys((*old, *new))
        if old.get(key, ...) != new.get(key, ...)
    ]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{'; '.join(found[:_SHOWN])}{more}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return json.dumps(settings[key], ensure_ascii=False) if key in settings else "not there"
