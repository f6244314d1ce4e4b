from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

MINIMAL = """\
name: mine
task: text_classification
data:
  train: rows.csv
model:
  backbone: owner/name
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes `recipe.yaml` into the current folder, the smallest recipe and more, and gives its path."""
    monkeypatch.chdir(tmp_path)

    def write(more: str = "", *, data: str = "", model: str = "", whole: str | None = None) -> str:
        text = MINIMAL.replace("model:\n", f"{data}model:\n") + model + more if whole is None else whole
        Path("recipe.yaml").write_text(text, encoding="utf-8")
        return "recipe.yaml"

    return write
