"""The common path asks a task, and never which task it has."""

from __future__ import annotations

from pathlib import Path

import pytest
from structure import branches

import tledge

PACKAGE = Path(tledge.__file__).parent


def test_no_branch_asks_what_kind_of_task_there_is() -> None:
    assert [f"{each.path}:{each.line}: {each.text}" for each in branches(PACKAGE)] == []


@pytest.mark.parametrize(
    "line",
    [
        'if recipe.task == "causal_lm": pass',
        'if task.INPUT in ("image",): pass',
        'if "regression" != task.PROBLEM_TYPE: pass',
        "isinstance(model, ImageClassifier)",
        "isinstance(encoder, (TextInput, int))",
    ],
)
def test_a_branch_is_found_outside_of_the_tasks_alone(tmp_path: Path, line: str) -> None:
    for folder in (tmp_path / "tasks", tmp_path / "stages"):
        folder.mkdir()
        (folder / "one.py").write_text(line)
    assert [each.path.parent.name for each in branches(tmp_path)] == ["stages"]
