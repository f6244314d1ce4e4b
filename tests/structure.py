"""The structure of the code in figures, from its syntax trees.

    python tests/structure.py [FOLDER]

Prints lines of code, branches on the kind of task, parameters of the longest signature and the share of annotations
that are `Any` or leave something open, of the package in FOLDER (by default `tledge`), and where each branch is.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TASK_NAMES = frozenset({"problem_type", "task", "kind", "input_kind", "INPUT", "PROBLEM_TYPE", "OPTIMUM_TASK"})
"""Names whose value says what kind of task there is; comparing one with a text is a branch."""
FLAGS = frozenset({"is_language_model"})
"""Names that are such a comparison themselves."""
PROBLEM_TYPES = frozenset(
    {
        "causal_lm",
        "masked_lm",
        "regression",
        "single_label_classification",
        "multi_label_classification",
        "image",
        "text",
    }
)
CLASSES = frozenset(
    {"ImageClassifier", "TextClassifier", "Classifier", "TextInput", "ImageInput", "LanguageModel", "Language",
     "ImageBackbone", "TextBackbone", "Images", "NextToken", "TokenBlocks"}
)  # fmt: skip
"""Classes of one kind of task; asking for one with `isinstance` is a branch."""
_SPACE = frozenset({tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT})


@dataclass(frozen=True, slots=True)
class Branch:
    """A place that asks what kind of task there is."""

    path: Path
    line: int
    text: str


def task_names(package: Path) -> frozenset[str]:
    """The tasks by their files."""
    found = (path.stem if path.suffix == ".py" else path.name for path in (package / "tasks").iterdir())
    return frozenset(name for name in found if not name.startswith("_"))


def branches(package: Path) -> Iterator[Branch]:
    """Comparisons with a task's name, input kind or problem type, and `isinstance` of its classes, outside `tasks/`."""
    known = PROBLEM_TYPES | task_names(package)
    for path in sorted(package.rglob("*.py")):
        if "tasks" in path.relative_to(package).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if _asks(node, known):
                yield Branch(path, node.lineno, ast.unparse(node)[:100])  # type: ignore[attr-defined]


def _asks(node: ast.AST, known: frozenset[str]) -> bool:
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        return any(_texts(side) & known for side in sides) and any(_named(side) & TASK_NAMES for side in sides)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
        return bool(_named(node.args[1]) & CLASSES)
    return isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load) and bool(_named(node) & FLAGS)


def _texts(node: ast.expr) -> frozenset[str]:
    inside = node.elts if isinstance(node, ast.Tuple | ast.Set | ast.List) else [node]
    return frozenset(each.value for each in inside if isinstance(each, ast.Constant) and isinstance(each.value, str))


def _named(node: ast.expr) -> frozenset[str]:
    inside = node.elts if isinstance(node, ast.Tuple | ast.Set | ast.List) else [node]
    names = (each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "") for each in inside)
    return frozenset(names)


def lines_of_code(package: Path) -> int:
    """Lines that hold code: no comments, docstrings or blank ones."""
    return sum(_lines(path) for path in package.rglob("*.py"))


def _lines(path: Path) -> int:
    text = path.read_text(encoding="utf-8")
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _SPACE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        for statement in getattr(node, "body", []) if isinstance(getattr(node, "body", None), list) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                lines.difference_update(range(statement.lineno, (statement.end_lineno or 0) + 1))
    return len(lines)


def functions(package: Path) -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with its file."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    """What a function takes, `self` and `cls` aside."""
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [each for each in given if each.arg not in ("self", "cls")]


def open_share(package: Path) -> float:
    """The share of annotations of parameters and results that are nothing but `Any`."""
    every = [a for _, f in functions(package) for a in (*(p.annotation for p in parameters(f)), f.returns) if a]
    return sum(isinstance(each, ast.Name) and each.id == "Any" for each in every) / len(every)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("tledge"))
    package = parser.parse_args().folder
    found = list(branches(package))
    for each in found:
        print(f"{each.path}:{each.line}: {each.text}")
    path, longest = max(functions(package), key=lambda each: len(parameters(each[1])))
    print(f"lines of code: {lines_of_code(package):,}")
    print(f"branches on the kind of task outside tasks/: {len(found)}, in {len({b.path for b in found})} files")
    print(f"most parameters: {len(parameters(longest))}, {longest.name} in {path}")
    print(f"annotations that are Any: {open_share(package):.1%}", file=sys.stdout)


if __name__ == "__main__":
    main()
