"""Boxes on the command line: as JSON lines, drawn, and as a file of COCO's."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from test_cli_main import one_line
from tiny_project import call

from tledge import runtime, tables
from tledge.cli import predict
from tledge.tasks import _boxes

BOX = {"label": "dog", "xmin": 10.0, "ymin": 5.0, "xmax": 40.0, "ymax": 25.0}
FOUND = {"boxes": [{**BOX, "score": 0.75}], "others": [{**BOX, "label": "cat", "score": 0.25}]}


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A folder that predicts the same boxes in every picture, and two pictures of one name."""
    asked = []

    def answer(value, **options):
        asked.append(value)
        return _boxes.narrowed(FOUND, **options)

    predictor = SimpleNamespace(
        task="object_detection", labels=("cat", "dog"), generator=None, prompts=None, predict=answer,
        manifest=SimpleNamespace(input=SimpleNamespace(kind="boxed_image", max_length=None)),
        holds=lambda cell: isinstance(cell, str), unknown_share=lambda value: 0.0, n_cut=lambda value: 0,
    )  # fmt: skip
    monkeypatch.setattr(runtime.Predictor, "load", lambda folder, **_: predictor)
    monkeypatch.setattr(predict, "bundle_of", lambda folder: folder)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 32)).save(tmp_path / name / "a.png")
    return tmp_path


def test_boxes_are_printed_drawn_and_written(bundle, capfd):
    done = call(
        capfd,
        "predict",
        bundle,
        bundle / "one",
        bundle / "two",
        "--draw",
        bundle / "drawn",
        "--coco",
        bundle / "b.json",
    )
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["boxes"] for line in lines] == [FOUND["boxes"]] * 2
    assert all("others" not in line for line in lines)
    drawn = sorted(path.name for path in (bundle / "drawn").iterdir())
    assert drawn == ["a-2.jpg", "a.jpg"]
    pixels = np.asarray(Image.open(bundle / "drawn" / "a.jpg")).max(axis=2)
    assert pixels.shape == (32, 64)
    assert pixels[20, 10] > 60 > pixels[29, 60]
    found = COCO(str(bundle / "b.json"))
    assert found.dataset["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert [each["bbox"] for each in found.loadAnns(found.getAnnIds())] == [[10, 5, 30, 20]] * 2
    (row, _) = tables.whole_rows(tables.open_table(bundle / "b.json"))
    assert row.cells["objects"]["boxes"][0]["label"] == "dog"


def test_a_picture_is_not_drawn_over(bundle, capfd):
    before = (bundle / "one" / "a.png").read_bytes()
    done = call(capfd, "predict", bundle, bundle / "one", "--draw", bundle / "one")
    assert done.code == 15
    assert "a.png is there, and would be drawn over; name another folder" in done.err
    assert [path.name for path in (bundle / "one").iterdir()] == ["a.png"]
    assert (bundle / "one" / "a.png").read_bytes() == before


def test_numbers_of_a_file_of_coco_and_of_the_bundle_are_kept(bundle, capfd):
    told = {
        "images": [{"id": 70, "file_name": "one/a.png"}, {"id": 7, "file_name": "two/a.png"}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [],
    }
    (bundle / "told.json").write_text(json.dumps(told))
    (bundle / "config.json").write_text(json.dumps({"tledge": {"detector": {"label_ids": {"cat": 3, "dog": 90}}}}))
    call(
        capfd, "predict", bundle, "--file", bundle / "told.json", "--coco", bundle / "b.json", "--score-threshold", "0"
    )
    found = json.loads((bundle / "b.json").read_text())
    assert [image["id"] for image in found["images"]] == [70, 7]
    assert [(each["image_id"], each["category_id"]) for each in found["annotations"]] == [
        (70, 90),
        (70, 3),
        (7, 90),
        (7, 3),
    ]


def test_a_threshold_that_leaves_nothing(bundle, capfd):
    done = call(capfd, "predict", bundle, bundle / "one", "--score-threshold", "0.99", "--coco", bundle / "b.json")
    assert json.loads(done.out)["boxes"] == []
    assert json.loads((bundle / "b.json").read_text())["annotations"] == []
    beyond = call(capfd, "predict", bundle, bundle / "one", "--score-threshold", "2")
    assert (beyond.code, beyond.out) == (2, "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--coco", "boxes.txt"], "expected a file that ends in .json"),
        (["--draw", __file__], "expected a folder"),
        (["--top-p", "0.5"], "only for language models"),
    ],
)
def test_options_that_do_not_fit(bundle, capfd, arguments, expected):
    done = call(capfd, "predict", bundle, bundle / "one" / "a.png", *arguments)
    assert done.code == 9
    assert expected in done.err + done.out


def test_other_tasks_have_no_boxes(tiny_bundle, tmp_path, capfd):
    done = call(capfd, "predict", tiny_bundle, "good", "--draw", tmp_path / "drawn")
    one_line(done, 9, "--draw: only for models of boxes")
    done = call(capfd, "predict", tiny_bundle, "good", "--score-threshold", "0.5")
    one_line(done, 9, "--score-threshold: only for models of boxes")
