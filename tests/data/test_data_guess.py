"""The first look agrees with what the room then reads."""

from __future__ import annotations

import json

import pytest
from labelled_rows import as_csv, labelled

from tledge.data import preview

SHAPES = {
    "rows.csv": (as_csv([(t, n, i) for i, (t, n) in enumerate(labelled(60))], ("review", "mood", "id")), False),
    "long.csv": (as_csv(labelled(4500, ("a", "b", "c")), ("said", "intent")), False),
    "several.csv": (as_csv(labelled(60, ("a", "b|a", "c", "")), ("body", "tags")), True),
    "late.csv": (as_csv([*labelled(2500), ("odd one", "rare"), *labelled(3, ("rare",), 9000)]), False),
    "lists.jsonl": (
        "".join(json.dumps({"text": f"t {i}", "labels": [["a"], ["x|y", "a"], []][i % 3]}) + "\n" for i in range(60)),
        True,
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_guessed_can_be_loaded_and_is_counted_alike(write, run, tmp_path, name):
    content, multilabel = SHAPES[name]
    write(name, content)
    seen = preview(name, base=tmp_path)
    assert seen.task == ("text_multilabel" if multilabel else "text_classification")
    report = run(name, task=seen.task, columns={"text": seen.input_columns[0], "label": seen.label_column}).report
    assert seen.n_rows == report.n_read["train"] and seen.n_broken == 0
    assert dict(seen.labels) == {label: sum(c[label] for c in report.label_counts.values()) for label in report.labels}
    assert seen.size_bytes == (tmp_path / name).stat().st_size
    assert list(seen.labels.values()) == sorted(seen.labels.values(), reverse=True)
