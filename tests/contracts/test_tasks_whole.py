"""Every task on disk goes all the way, from rows of its own examples to a device, the gate and the report.

No list of tasks stands here: what a task's rows, labels and models are is asked of the task.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language
import tiny_project
from PIL import Image

from tledge import bundle, evidence, inputs, pipeline, plugins, report, tasks
from tledge.artifacts import read_json
from tledge.recipe import load_recipe
from tledge.runtime import verify

COUNT, FEW = 60, 8
TEXTS = ("lamp bright", "song tune")
CELLS: tuple[tuple[Any, Any], ...] = (
    ("low|high", "high"),
    ("1.5", "2.5"),
    ([{"label": "lamp", "start": 0, "end": 4}], [{"label": "song", "start": 0, "end": 4}]),
    ("lamp", "song"),
    (
        [{"label": "lamp", "xmin": 2, "ymin": 2, "xmax": 30, "ymax": 40}],
        [{"label": "song", "xmin": 5, "ymin": 5, "xmax": 45, "ymax": 30}],
    ),
)
"""Two different cells of labels: names, numbers, spans of the texts above, parts of them, and boxes."""
MODELS = {
    "text": {"backbone": "backbone", "max_length": 24, "max_unknown": 1.0},
    "words": {"backbone": "backbone", "max_length": 24, "max_unknown": 1.0},
    "masked": {"backbone": "backbone", "max_length": 24, "max_unknown": 1.0},
    "embedding": {"backbone": "backbone", "max_length": 24, "max_unknown": 1.0},
    "question": {"backbone": "backbone", "max_length": 48, "max_unknown": 1.0},
    "language": {"backbone": "backbone", "max_length": 32},
    "image": {"backbone": "torchvision:squeezenet1_1", "weights": "none", "preprocessing": {"size": 64}},
    "boxed_image": {
        **{"backbone": "torchvision:shufflenet_v2_x0_5", "weights": "none"},
        **{"detector": "fcos", "input_size": [64, 64]},
    },
}
ON_A_DEVICE = """
import json, sys
from pathlib import Path
from tledge import Predictor
values = [Path(v) if v.endswith(".png") else tuple(v.split("\\t")) if "\\t" in v else v for v in sys.argv[2:]]
predictor = Predictor.load(sys.argv[1])
answers = [predictor.predict(value) for value in values]
loaded = {name.partition(".")[0] for name in sys.modules}
heavy = loaded & {"torch", "transformers", "onnx", "pydantic", "pyarrow", "datasets"}
print(json.dumps([answers, sorted(heavy)]))
"""


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """A folder with a backbone for each kind of starter that needs one."""
    folder = tmp_path_factory.mktemp("backbones")
    for name in ("text", "words", "masked", "embedding", "question"):
        tiny_project.save_backbone(folder / name)
    tiny_language.checkpoint(folder / "language", "gpt2", initializer_range=0.02)
    return folder


def labels_of(task) -> tuple[Any, Any] | None:
    """Two cells of labels that the task reads; nothing where it has none."""
    if not task.LABEL_COLUMN:
        return None
    for cells in CELLS:
        try:
            for cell, text in zip(cells, TEXTS, strict=True):
                given = [] if task.INPUT_COLUMNS == ("image",) else [text] * len(task.INPUT_COLUMNS)
                task.parse_label(cell, "|", ".", given)
        except ValueError:
            continue
        return cells
    raise AssertionError("the task reads no such labels")


def cell_of(example: Any, label: int, number: int, folder: Path) -> str:
    """One of a task's own examples, told apart by its label and its number: a text, or a path of an image."""
    if isinstance(example, str):
        return f"{TEXTS[label]} {example[:12]} {number}"
    shade = np.clip(example[:64, :50].astype(int) // 3 + 90 * label + number, 0, 255).astype(np.uint8)
    Image.fromarray(shade).save(folder / f"{number}.png")
    return f"{number}.png"


def write_rows(task, folder: Path) -> list[dict[str, str]]:
    """`rows.jsonl`, and the first ones in `few.jsonl`, of examples that are nobody's data."""
    examples = [each for each in plugins.load("tledge.inputs", task.INPUT).Input.examples(None) if len(each) > 0]
    cells, rows = labels_of(task), []
    for number in range(COUNT):
        example = examples[number % len(examples)]
        parts = example if isinstance(example, tuple) else (example,)
        values = [cell_of(part, number % 2, number, folder) for part in parts]
        row = dict(zip(task.INPUT_COLUMNS, values, strict=True))
        rows.append(row | ({task.LABEL_COLUMN: cells[number % 2]} if cells else {}))
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    (folder / "few.jsonl").write_text("\n".join(map(json.dumps, rows[:FEW])) + "\n", encoding="utf-8")
    return rows


def write_recipe(name: str, folder: Path) -> Path:
    task = tasks.load(name)
    strategy = "full" if "probe" not in task.STRATEGIES else "probe"
    recipe = {
        "name": "whole",
        "task": name,
        "data": {"train": "rows.jsonl", "validation": 0.2, "test": 0.2},
        "model": MODELS[task.STARTER],
        "finetune": {"strategy": strategy, "epochs": 1, "batch_size": 8, "report_to": []},
        "quantize": {"schemes": [task.SCHEMES[0]]},
        "budget": {"max_metric_drop": 0.9},
        "bench": {"percentile": 50, "duration_s": 0.5},
    }
    if task.CALIBRATION_ROWS:
        recipe["data"]["calibration"] = 8
        recipe["quantize"]["int8_static"] = {"types": ["u8s8"], "methods": ["minmax"], "keep_float": ["none"]}
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    return folder / "recipe.yaml"


def every_task() -> Iterator[Any]:
    """Each task; those that are put together of what others have shown before are slow tests."""
    seen: set[tuple[str, ...]] = set()
    for name in plugins.names("tledge.tasks"):
        task = tasks.load(name)
        parts = {("input", task.INPUT, task.HEAD, task.RUN), ("labels", task.LABELS)}
        yield pytest.param(name, marks=[pytest.mark.slow] if parts <= seen else [])
        seen |= parts


@pytest.mark.parametrize("name", every_task())
def test_a_task_goes_all_the_way(name, backbones, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TLEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)
    task = tasks.load(name)
    rows = write_rows(task, tmp_path)
    if (backbones / task.STARTER).exists():
        (tmp_path / "backbone").symlink_to(backbones / task.STARTER)
    run = tmp_path / "runs" / "whole"
    recipe = load_recipe(write_recipe(name, tmp_path))
    pipeline.run(recipe, run, until="bundle")

    parity = read_json(run / "export" / "parity.json")
    assert len(parity) > 5
    assert all(case["passed"] for case in parity)
    manifest = bundle.load(run / "bundle")
    assert (manifest.task, manifest.input.kind, manifest.problem_type) == (name, task.INPUT, task.PROBLEM_TYPE)
    assert [variant.name for variant in manifest.variants] == ["fp32", task.SCHEMES[0]]
    assert all(set(task.METRICS) & set(variant.test_metrics) for variant in manifest.variants)
    assert verify(run / "bundle").passed

    given = ["\t".join(row[column] for column in task.INPUT_COLUMNS) for row in rows[:3]]
    done = subprocess.run(
        [sys.executable, "-c", ON_A_DEVICE, str(run / "bundle"), *given],
        check=True, capture_output=True, encoding="utf-8", env=None,
    )  # fmt: skip
    answers, heavy = json.loads(done.stdout)
    assert heavy == []
    assert len(answers) == 3
    assert all(answers)
    shown = tiny_project.call(capfd, "predict", run, "--file", "few.jsonl")
    assert shown.code == 0
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert [{column: line[column] for column in task.INPUT_COLUMNS} for line in lines] == [
        {column: row[column] for column in task.INPUT_COLUMNS} for row in rows[:FEW]
    ]
    assert answers == [{k: v for k, v in line.items() if k not in task.INPUT_COLUMNS} for line in lines[:3]]

    rows_too = ["--rows", "few.jsonl"] if task.LABEL_COLUMN else []
    (tmp_path / "budget.yaml").write_text("size_mb: 500\nmax_metric_drop: 0.99\nmachine: any\n")
    judged = tiny_project.call(
        capfd, "gate", run, "--against", run, "--budget", "budget.yaml", *rows_too, "--json", "verdict.json"
    )
    assert judged.code in (0, 12), judged.err
    verdict = read_json(tmp_path / "verdict.json")
    assert {"max_metric_drop", "size_mb"} <= {each["limit"] for each in verdict["findings"]}
    page = report.html(evidence.facts(recipe, run))
    assert name in page
    assert task.METRIC in json.dumps(manifest.metrics)


def test_the_examples_of_a_kind_of_input_are_the_same_for_ever():
    for kind in plugins.names(inputs.__name__):
        first, second = (plugins.load(inputs.__name__, kind).Input.examples(None) for _ in range(2))
        assert len(first) > 1
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
