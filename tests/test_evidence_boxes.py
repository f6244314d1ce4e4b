"""What a report tells of boxes, on rows made by hand, and how boxes are drawn."""

import base64
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tledge import answers as stored
from tledge import data, tasks
from tledge.artifacts import write_json
from tledge.evidence import labels
from tledge.evidence.labels.boxes import confusion
from tledge.inputs import _drawing
from tledge.report import Facts, LabelScore, html, markdown, model_card

TASK = tasks.load("object_detection")
LABELS = ("cat", "dog")
CAT, DOG = (0, 10, 10, 50, 50, 0), (1, 100, 20, 150, 60, 0)


def records(*rows):
    found = {
        "boxes": np.zeros((len(rows), 3, 4), np.float32),
        "scores": np.zeros((len(rows), 3), np.float32),
        "labels": np.full((len(rows), 3), -1),
        "score_threshold": np.full(len(rows), 0.4),
    }
    for i, row in enumerate(rows):
        for j, (box, score) in enumerate(row):
            found["labels"][i, j], found["boxes"][i, j], found["scores"][i, j] = box[0], box[1:5], score
    return found


class Rows:
    def __init__(self, folder, truth):
        self._columns = {
            "label": [np.ravel(row).tolist() for row in truth],
            "row": [f"set:{i}" for i in range(len(truth))],
        }
        self._columns["image"] = [{"bytes": None, "path": str(folder / f"{i}.png")} for i in range(len(truth))]

    def __getitem__(self, key):
        return self._columns[key] if isinstance(key, str) else {name: of[key] for name, of in self._columns.items()}


@pytest.fixture
def found(tmp_path, monkeypatch):
    """Three rows: all right; a cat taken for a dog; one that is only found below the score that is shown."""
    truth = [[CAT, DOG], [CAT, (0, 0, 0, 5, 5, 1)], [DOG]]
    for i in range(2):
        Image.new("RGB", (200, 100), "white").save(tmp_path / f"{i}.png")
    given = records([(CAT, 0.9), (DOG, 0.8)], [((1, *CAT[1:]), 0.7)], [(DOG, 0.3)])
    (tmp_path / "quantize").mkdir()
    targets = TASK.targets([np.ravel(row).tolist() for row in truth], 2)
    stored.save(tmp_path / "quantize", np.arange(3, dtype=np.uint64), targets, {"fp32": given})
    write_json(tmp_path / "quantize" / "variants.json", [{"name": "fp32", "chosen": True}])
    splits = SimpleNamespace(train=Rows(tmp_path, truth), test=Rows(tmp_path, truth))
    monkeypatch.setattr(data, "open_splits", lambda folder: splits)
    return labels.load("boxes").read(TASK, "map", LABELS, tmp_path)


def test_scores_mistakes_and_pictures(found):
    detections = found["detections"]
    assert found["label_scores"] == (
        LabelScore("cat", 1.0, 0.5, pytest.approx(2 / 3), 2),
        LabelScore("dog", 0.5, 0.5, 0.5, 2),
    )
    assert [(each.label, each.count) for each in detections.scores] == [("cat", 2), ("dog", 2)]
    assert detections.scores[0].map == pytest.approx(51 / 101)
    assert detections.scores[1].recall == 1.0
    assert detections.confusion == ((1, 1, 0), (0, 1, 1), (0, 0, 0))
    assert found["wrong_count"] == 2
    assert set(detections.sizes) == {"medium"}
    assert detections.sizes["medium"]["boxes"] == 4
    assert [(each.row, each.missed, each.false) for each in detections.pictures] == [
        ("set:1", 1, 1), ("set:2", 1, 0), ("set:0", 0, 0)
    ]  # fmt: skip
    assert (detections.pictures[1].truth, detections.pictures[1].found) == ("", ""), "the picture is gone"
    first = Image.open(BytesIO(base64.b64decode(detections.pictures[0].found.partition(",")[2])))
    assert first.size == (200, 100)
    red = np.asarray(first).astype(int)[30, 10]
    assert red[0] - red[1] > 30, "a line of one pixel, which JPEG has made paler"


def test_pages_hold_them(found):
    facts = Facts(
        recipe="cells", created="2026-11-27T00:00:00+00:00", task="object_detection", version="0", metric="map",
        labels=LABELS, input_kind="boxed_image", **{k: v for k, v in found.items() if k != "transfer"},
    )  # fmt: skip
    page = html(facts)
    assert page.count("data:image/jpeg") == 4
    for text in ("Average precision by label", "By size of the box", "Precision by recall at IoU 0.5", "background"):
        assert text in page
    assert "test boxes" in page
    assert "Most mistakes at the score of 0.400" in markdown(facts)
    assert "each[&quot;boxes&quot;]" in model_card(facts) or 'each["boxes"]' in model_card(facts)


def test_a_crowd_is_no_mistake_in_the_confusion():
    truth = TASK.targets([[*CAT[:5], 1]], 2)
    assert confusion(records([(CAT, 0.9)]), truth, 2) == ((0, 0, 0),) * 3


@pytest.mark.parametrize("size", [(1, 1), (30, 400), (300, 200)])
def test_a_box_is_drawn_on_the_edge_of_what_it_holds(size):
    image = Image.new("RGB", size)
    drawn = np.asarray(_drawing.draw(image, [_drawing.Drawn((0, 0, *size), "", "#ffffff")]))
    assert drawn.shape[:2] == size[::-1]
    for edge in (drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]):
        assert edge.min() == 255
    assert np.asarray(image).max() == 0, "the image itself stays"
    assert max(_drawing.draw(image, [_drawing.Drawn((0, 0, 1, 1), "车 car", "#ff0000")], longest=100).size) <= 100
