"""The recipe's keys as one tree of plain JSON schema, without references, for messages and documents."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, cast

from tledge.recipe.schema import Recipe
from tledge.yaml12 import KeyPath

Node = dict[str, Any]
"""A JSON schema: of the whole recipe, of a section, or of one value."""


@functools.cache
def tree() -> Node:
    """The schema of a whole recipe; sections lie inside, and descriptions are one line each."""
    raw = Recipe.model_json_schema()
    return _inlined(raw, raw.pop("$defs"))


def _inlined(node: Node, definitions: dict[str, Node]) -> Node:
    if "$ref" in node:
        node = {**definitions[node["$ref"].rpartition("/")[2]], **node}
        node = {key: value for key, value in node.items() if key not in ("$ref", "default")}
    node = {key: value for key, value in node.items() if key != "title"}
    if "description" in node:
        node["description"] = " ".join(node["description"].split())
    if "properties" in node:
        node["properties"] = {key: _inlined(child, definitions) for key, child in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            node[key] = _inlined(node[key], definitions)
    if "anyOf" in node:
        node["anyOf"] = [_inlined(child, definitions) for child in node["anyOf"]]
        shapes = alternatives(node)
        if len(shapes) == 1 and is_section(shapes[0]):  # a section that may be left out
            return {**shapes[0], "optional": True}
    return node


def is_section(node: Node) -> bool:
    """Whether a key holds keys of its own that the schema names."""
    return "properties" in node


def is_optional(node: Node) -> bool:
    """Whether a section may be left out altogether, which is its default."""
    return bool(node.get("optional"))


def every(node: Node | None = None, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Node]]:
    """Each key with its schema, in the schema's order; a section comes before its keys."""
    for key, child in (node or tree())["properties"].items():
        yield (*path, key), child
        if is_section(child):
            yield from every(child, (*path, key))


def find(path: KeyPath) -> tuple[KeyPath, Node]:
    """The longest part of `path` that the schema knows, and its schema.

    It stops at a value of several shapes (`data.validation`), so that one message speaks of them all.
    """
    node = tree()
    for depth, step in enumerate(path):
        choices = alternatives(node)
        child = _child(choices[0], step) if len(choices) == 1 else None
        if child is None:
            return path[:depth], node
        node = child
    return path, node


def _child(node: Node, step: str | int) -> Node | None:
    if isinstance(step, int):
        return cast("Node | None", node.get("items"))
    if is_section(node):
        return cast("Node | None", node["properties"].get(step))
    return cast("Node | None", node.get("additionalProperties") or None)


def alternatives(node: Node) -> list[Node]:
    """The shapes that a value may have, null left out."""
    return [choice for choice in node.get("anyOf", [node]) if choice.get("type") != "null"]


def among_others(node: Node, shape: str) -> Node | None:
    """The schema of what is in a mapping (`object`) or a list (`array`) that is one of several shapes; else None."""
    shapes, inside = alternatives(node), {"object": "additionalProperties", "array": "items"}
    found = [each[inside[shape]] for each in shapes if shape in inside and each.get("type") == shape]
    return found[0] if found and len(shapes) > 1 else None


def choices(node: Node) -> list[Any]:
    """The values that are named one by one (`probe`, `partial` ...); empty when the value is free."""
    found: list[Any] = []
    for choice in alternatives(node):
        found += choice.get("enum", [choice["const"]] if "const" in choice else [])
    return found


def describe(node: Node) -> str:
    """What a value may be, in words: `a number above 0, or null`."""
    words = [_words(choice) for choice in alternatives(node)]
    if len(words) < len(node.get("anyOf", [node])):
        words.append("null")
    return f"{', '.join(words[:-1])}, or {words[-1]}" if len(words) > 1 else words[0]


def _words(node: Node) -> str:
    if named := choices(node):
        return f"one of {', '.join(map(str, named))}" if len(named) > 1 else f"'{named[0]}'"
    match node["type"]:
        case "string":
            words = _text_words(node)
        case "boolean":
            words = "true or false"
        case "integer":
            words = f"a whole number{_range(node)}"
        case "number":
            words = f"a number{_range(node)}"
        case "array":
            least = " of at least one" if node.get("minItems") else ""
            words = f"a list{least}, each item {describe(node['items'])}"
        case _ if is_section(node):
            words = f"a section of keys ({', '.join(sorted(node['properties']))})"
        case _:
            words = f"a mapping of names, each to {describe(node['additionalProperties'])}"
    return words


def _text_words(node: Node) -> str:
    if "patternErrorMessage" in node:
        return str(node["patternErrorMessage"])
    if node.get("maxLength") == 1:
        return "one character"
    return "text that is not empty" if node.get("minLength") else "text"


def _range(node: Node) -> str:
    bounds = [
        text.format(node[key])
        for key, text in (
            ("exclusiveMinimum", "above {}"),
            ("minimum", "of {} or more"),
            ("exclusiveMaximum", "below {}"),
            ("maximum", "of {} or less"),
        )
        if key in node
    ]
    return f" {' and '.join(bounds)}" if bounds else ""


def dotted(path: KeyPath) -> str:
    """The way to a value as it is written in messages and `--set`: `finetune.epochs`."""
    return ".".join(str(step) for step in path)
