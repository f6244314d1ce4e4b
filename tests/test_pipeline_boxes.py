"""Whole runs of a detector, from COCO's file to a bundle that finds things with the device's packages alone."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tiny_boxes
from tiny_project import call, tledge

from tledge.artifacts import read_json

pytestmark = pytest.mark.slow

ON_DEVICE = """
import json, sys
from tledge import Predictor
answers = Predictor.load(sys.argv[1]).predict(sys.argv[2:])
heavy = {"torch", "torchvision", "transformers", "onnx", "pydantic"} & set(sys.modules)
print(json.dumps([answers, sorted(heavy)]))
"""


RUNS = {
    "graph": ["export.nms=graph", "export.preprocessing=normalize"],
    "device": ["export.nms=device", "export.preprocessing=normalize"],
    "two stages": ["model.detector=faster_rcnn", "model.head.hidden_size=32", "finetune.epochs=20"],
}


@pytest.fixture(scope="module", params=RUNS)
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    tiny_boxes.write_project(folder)
    settings = [f"--set={each}" for each in RUNS[request.param]]
    environment = {"TLEDGE_CACHE": str(folder / "cache")}
    tledge("run", "recipe.yaml", *settings, cwd=folder, code=0, env=environment, timeout=900)
    return folder, folder / "runs" / "tiny"


def test_the_bundle_holds_and_finds_things_without_torch(finished, capfd):
    folder, run = finished
    done = call(capfd, "verify", run / "bundle")
    assert done.code == 0
    assert "golden int8_static" in done.out
    files = [str(folder / "pictures" / name) for name in ("001.png", "002.jpg", "003.png")]
    command = [sys.executable, "-c", ON_DEVICE, str(run / "bundle"), *files]
    answers, heavy = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert heavy == []
    sizes = [tiny_boxes.picture(number)[0].size for number in (1, 2, 3)]
    found = [(box, size) for answer, size in zip(answers, sizes, strict=True) for box in answer["boxes"]]
    assert found
    for box, (width, height) in found:
        assert box["label"] in tiny_boxes.COLOURS
        assert 0 <= box["xmin"] < box["xmax"] <= width and 0 <= box["ymin"] < box["ymax"] <= height


def test_parity_and_the_threshold_are_stored(finished):
    _, run = finished
    names = [case["name"] for case in read_json(run / "export" / "parity.json")]
    assert any("detections" in name for name in names) and any("detections" not in name for name in names)
    threshold = read_json(run / "bundle" / "config.json")["tledge"]["detector"]["score_threshold"]
    assert 0 < threshold < 1
    outputs = [each["name"] for each in read_json(run / "bundle" / "bundle.json")["outputs"]]
    assert outputs in (["boxes", "scores", "labels"], ["boxes", "scores"])
    assert np.isfinite(read_json(run / "export" / "preprocessing.json")["ours"])
