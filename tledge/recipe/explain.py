"""What is wrong with a recipe, one plain line for each mistake: place, key, what was got, what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from tledge import plugins, yaml12
from tledge.errors import did_you_mean
from tledge.recipe import keys
from tledge.yaml12 import KeyPath

Place = Callable[[KeyPath], str]
"""Names where a key came from: `recipe.yaml:12`, or `--set finetune.epochs=5`."""

KINDS = {"task": "tledge.tasks", "scheme": "tledge.quantize.schemes"}
"""The packages whose file names are the known tasks and schemes."""


def explain(errors: Iterable[ErrorDetails], values: Mapping[str, Any], place: Place) -> list[str]:
    """One line for each mistake that pydantic found in `values`, and for a value of several shapes."""
    return list(dict.fromkeys(line for error in errors for line in _lines(error, values, place)))


def _lines(error: ErrorDetails, values: Mapping[str, Any], place: Place) -> Iterator[str]:
    if error["type"] == "value_error":  # the schema's own check across keys: its lines start with the key
        for line in str(error["ctx"]["error"]).split("\n"):
            yield f"{place(tuple(line.partition(':')[0].split('.')))}: {line}"
        return
    loc = error["loc"]
    path, node = keys.find(loc)
    if error["type"] == "extra_forbidden":
        yield f"{place(loc)}: {keys.dotted(loc)}: {_unknown_key(loc, node)}"
        return
    if error["type"] == "missing":
        yield f"{place(path)}: {keys.dotted(path)}: missing key; add it: {node['description']}"
        return
    value = _at(values, path)
    shape = "object" if isinstance(value, dict) else "array" if isinstance(value, list) else ""
    entries = keys.among_others(node, shape)
    if entries:  # then pydantic's `loc` goes on with its name of the shape, and a key or place
        if len(loc) < len(path) + 2 or isinstance(loc[len(path) + 1], int) != isinstance(value, list):
            return  # what the other shapes say does not help
        path, node = (*path, loc[len(path) + 1]), entries
        value = _at(values, path)
    text = f"expected {keys.describe(node)}, got {yaml12.shown(value)}{_hint(node, value)}"
    yield f"{place(path)}: {keys.dotted(path)}: {text}"


def _unknown_key(path: KeyPath, section: keys.Node) -> str:
    key, known = str(path[-1]), sorted(section["properties"])
    elsewhere = [keys.dotted(other) for other, _ in keys.every() if other[-1] == key]
    hint = f"; did you mean {elsewhere[0]!r}?" if elsewhere else did_you_mean(key, known)
    return f"unknown key; known keys are {', '.join(known)}{hint}"


def unknown_kinds(values: Mapping[str, Any], place: Place) -> list[str]:
    """One line for each name of a task or a scheme that no file has."""
    quantize = values.get("quantize")
    schemes = quantize.get("schemes") if isinstance(quantize, Mapping) else None
    named: list[tuple[str, KeyPath, Any]] = [("task", ("task",), values.get("task"))]
    named += [("scheme", ("quantize", "schemes", i), name) for i, name in enumerate(_items(schemes))]
    lines = []
    for kind, path, name in named:
        known = plugins.names(KINDS[kind])
        if isinstance(name, str) and name not in known:
            lines.append(
                f"{place(path)}: {keys.dotted(path)}: there is no {kind} {name!r}; "
                f"known {kind}s are {', '.join(known)}{did_you_mean(name, known)}"
            )
    return lines


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _at(values: Any, path: KeyPath) -> Any:
    for step in path:
        values = values[step]
    return values


def _hint(node: keys.Node, value: Any) -> str:
    types = {choice.get("type", "text") for choice in keys.alternatives(node)}
    if isinstance(value, str):
        if types == {"boolean"} and value.lower() in ("yes", "on", "no", "off"):
            return f"; write {'true' if value.lower() in ('yes', 'on') else 'false'}"
        if types <= {"integer", "number"} and isinstance(yaml12.read(value, lambda *_: "")[0], int | float):
            return "; remove the quotes"
    if isinstance(value, int | float) and types == {"string"} and not keys.choices(node):
        return f"; write it in quotes: '{yaml12.inline(value)}'"
    if types == {"array"} and not isinstance(value, list | dict) and value is not None:
        return f"; write [{yaml12.inline(value)}]"
    return did_you_mean(str(value), keys.choices(node))
