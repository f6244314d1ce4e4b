from __future__ import annotations

import pytest

from tledge import yaml12
from tledge.errors import RecipeError


def read(text: str) -> object:
    return yaml12.read(text, lambda line, column: f"f:{line}:{column}")[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[yes, no, on, off, Yes, NO, y, n]", ["yes", "no", "on", "off", "Yes", "NO", "y", "n"]),
        ("[true, False, TRUE]", [True, False, True]),
        ("[null, ~, Null]", [None, None, None]),
        ("[1e-3, 1E5, .5, 5., -0.25, 2.5e+3]", [0.001, 100000.0, 0.5, 5.0, -0.25, 2500.0]),
        ("[0, 010, -7, +7, 0x1f, 0o17]", [0, 10, -7, 7, 31, 15]),
        ("[1_000, 1:30, 0b1, 2024-01-31, =, <<]", ["1_000", "1:30", "0b1", "2024-01-31", "=", "<<"]),
        ("['1', \"true\", !!str 5]", ["1", "true", "5"]),
        ("{0: a, yes: b, null: c}", {"0": "a", "yes": "b", "null": "c"}),
        ("key:", {"key": None}),
        ("# nothing", None),
    ],
)
def test_values_are_what_they_look_like(text: str, value: object) -> None:
    got = read(text)
    assert got == value
    assert repr(got) == repr(value)  # 1, 1.0 and True are equal in Python


def test_infinity_and_not_a_number() -> None:
    assert repr(read("[.inf, -.inf, .nan]")) == "[inf, -inf, nan]"


def test_lines_of_keys_and_items() -> None:
    _, lines = yaml12.read("a:\n  b:\n    - 1\n    - 2\nc: 3\n", lambda *_: "")
    assert lines[("a",)] == (1, 1)
    assert lines[("a", "b")] == (2, 3)
    assert lines[("a", "b", 1)] == (4, 7)
    assert lines[("c",)] == (5, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f:3:1: 'a' is there twice (first on line 1); keep one"),
        ("x:\n  a: 1\n  a: 1", "f:3:3: 'a' is there twice (first on line 2); keep one"),
        ("[1]: 2", "f:1:1: expected a key of plain text, got a sequence"),
        (
            "a: !!python/name:os.system x",
            "f:1:4: the tag !!python/name:os.system is not allowed in a recipe; remove it",
        ),
        ("a: !!int x", "f:1:4: 'x' is not of the type int"),
        ("a: &x 1\nb: *x", "f:2:4: not valid YAML: found an alias; put text that starts with * in quotes"),
        (
            "a: *.layer",
            "f:1:5: not valid YAML: expected alphabetic or numeric character, but found '.'; "
            "put text that starts with * in quotes",
        ),
        (
            "a: b: c",
            "f:1:5: not valid YAML: mapping values are not allowed here; "
            "check the indentation, and put text that holds ': ' in quotes",
        ),
        (
            "a:\n\tb: 1",
            "f:2:1: not valid YAML: found character '\\t' that cannot start any token; indent with spaces, not tabs",
        ),
        (
            "a: [1, 2\nb: 3",
            "f:2:2: not valid YAML: expected ',' or ']', but got ':'; a closing bracket or a comma is missing",
        ),
        ("a: 'b", "f:1:6: not valid YAML: found unexpected end of stream; a closing quote is missing"),
        (
            "a: 1\n---\nb: 2",
            "f:2:1: not valid YAML: but found another document; a recipe is one document, remove the line ---",
        ),
        ("a: 1\nb: x\x07y", "f:2:5: not valid YAML: a control character; remove it"),
        ("[" * 5000, "f:1:1: not a recipe: values are nested too deeply"),
    ],
)
def test_each_mistake_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        read(text)
    assert str(error.value) == message


TRICKY = [
    "yes",
    "off",
    "1e-3",
    "010",
    "0o7",
    "1:30",
    "null",
    "~",
    "",
    "true",
    " x ",
    "a: b",
    "# c",
    "*.x",
    "ü",
    "a\nb",
]


def test_what_is_written_reads_the_same() -> None:
    values = {"text": TRICKY, "rest": [1, 1.0, 1e-5, 1e20, True, None, {}, []], "yes": {"0": "1"}}
    assert repr(read(yaml12.write(values))) == repr(values)
    assert repr(read(yaml12.inline(values))) == repr(values)


def test_inline_is_one_line() -> None:
    assert yaml12.inline([1, "yes", "b"]) == "[1, 'yes', b]"
    assert yaml12.inline("plain") == "plain"
    assert yaml12.inline({"b": 1, "a": 2}) == "{b: 1, a: 2}"
