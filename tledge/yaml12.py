"""YAML text to plain values and back, by the core schema of YAML 1.2.

PyYAML reads by YAML 1.1, where `no` is a boolean, `1e-3` is text and `010` is eight. Here `true`, `false`,
`null` and numbers (`1`, `0x1f`, `1e-3`) are what they look like, and all else is text. Every value's line is
kept for messages. Only mappings, lists and scalars are read: no tags that make objects, no anchors and
aliases, no key twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tledge.errors import RecipeError, did_you_mean

KeyPath = tuple[str | int, ...]
"""The way to a value: keys of mappings and positions in lists, such as `("bench", "batch", 0)`."""

Place = Callable[[int, int], str]
"""Names the place of a line and a column (both from 1) in a message."""

_TAG = "tag:yaml.org,2002:"
_SCALARS: dict[str, tuple[str, str]] = {
    "null": (r"^(?:~|null|Null|NULL|)$", "~nN"),
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": (r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    "float": (
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+.0123456789",
    ),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError("while scanning an alias", None, "found an alias", mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Has the rules of YAML 1.1 beside ours, so that text which either reads as something else is quoted."""


for _name, (_pattern, _first) in _SCALARS.items():
    for _kind in (_Loader, _Dumper):
        _starts = [*_first, ""] if _name == "null" else list(_first)
        _kind.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _starts)


def text_of(path: Path, what: str) -> str:
    """The text of a YAML file; `what` is what it should hold, such as `recipe`.

    Raises:
        RecipeError: it is not there, is a folder, cannot be read, or is not UTF-8.
    """
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
        listed = f"; it holds {', '.join(inside[:10])}" if inside else ""
        raise RecipeError(f"{path}: a folder, expected a {what}'s YAML file{listed}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        beside = [str(file) for file in path.parent.glob("*.y*ml")]
        raise RecipeError(f"{path}: no such file, expected a {what}{did_you_mean(str(path), beside)}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}:{line}: not UTF-8 text; save the {what} as UTF-8") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None


def read(text: str, place: Place) -> tuple[Any, dict[KeyPath, tuple[int, int]]]:
    """Plain values (None for an empty text), and the line and column of each value, by the way to it.

    The line of a value in a mapping is that of its key.

    Raises:
        RecipeError: the text is no YAML that a recipe may hold; the message names the place.
    """
    lines: dict[KeyPath, tuple[int, int]] = {}
    try:
        node = yaml.compose(text, Loader=_Loader)
        return (None if node is None else _value(node, (), lines, place)), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = place(mark.line + 1, mark.column + 1) if mark else place(1, 1)
        raise RecipeError(f"{where}: not valid YAML: {error.problem}{_advice(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise RecipeError(f"{place(line, column)}: not valid YAML: a control character; remove it") from None
    except RecursionError:
        raise RecipeError(f"{place(1, 1)}: not a recipe: values are nested too deeply") from None


def write(values: Any) -> str:
    """YAML text of plain values, in their order; what `read` makes of it is equal to `values`."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


def inline(value: Any) -> str:
    """One value on one line, such as `[1, 8]`."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


def _value(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, tuple[int, int]], place: Place) -> Any:
    lines.setdefault(path, _position(node))
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, i), lines, place) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node, place)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        where = place(*_position(key_node))
        if not isinstance(key_node, yaml.ScalarNode):
            raise RecipeError(f"{where}: expected a key of plain text, got a {key_node.id}")
        # A key is text as it is written: the 0 in `label_names: {0: negative}` is the text of a cell.
        key: str = key_node.value
        if key in values:
            first = lines[(*path, key)][0]
            raise RecipeError(f"{where}: {key!r} is there twice (first on line {first}); keep one")
        lines[(*path, key)] = _position(key_node)
        values[key] = _value(value_node, (*path, key), lines, place)
    return values


def _position(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _scalar(node: yaml.Node, place: Place) -> Any:
    text: str = node.value
    kind = node.tag.removeprefix(_TAG)
    try:
        match kind:
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
            case "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        raise RecipeError(f"{place(*_position(node))}: {text[:40]!r} is not of the type {kind}") from None
    tag = node.tag.replace(_TAG, "!!")
    raise RecipeError(f"{place(*_position(node))}: the tag {tag} is not allowed in a recipe; remove it")


_ADVICE = {
    "character '\\t'": "indent with spaces, not tabs",
    "alias": "put text that starts with * in quotes",
    "mapping values are not allowed": "check the indentation, and put text that holds ': ' in quotes",
    "single document": "a recipe is one document, remove the line ---",
    "quoted scalar": "a closing quote is missing",
    "flow": "a closing bracket or a comma is missing",
}


def _advice(error: yaml.MarkedYAMLError) -> str:
    told = f"{error.context} {error.problem}"
    return next((f"; {advice}" for sign, advice in _ADVICE.items() if sign in told), "")


def shown(value: Any) -> str:
    """A value in a message about it: a text in quotes and shortened, a list or mapping by its kind."""
    match value:
        case str():
            return f"{value if len(value) <= 60 else value[:57] + '...'!r} (text)"
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "a mapping"
    return inline(value)
