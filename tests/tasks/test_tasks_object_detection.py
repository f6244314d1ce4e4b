"""Boxes: their cells, numbers, answers and figures."""

import json

import numpy as np
import pytest
from PIL import Image

from tledge import significance, tasks
from tledge.errors import InputError
from tledge.inputs.image import decode
from tledge.tasks import _box_cells, _boxes
from tledge.tasks._box_cells import Box, Shape, boxes_in

TASK = tasks.load("object_detection")
WIDE = Shape(100, 200)


def records(*rows, threshold=0.5):
    """Records of rows, each a list of (label, score, corners), padded to the longest."""
    most = max(1, *map(len, rows))
    found = {
        "boxes": np.zeros((len(rows), most, 4), np.float32),
        "scores": np.zeros((len(rows), most), np.float32),
        "labels": np.full((len(rows), most), -1, np.int64),
        "score_threshold": np.full(len(rows), threshold),
    }
    for i, row in enumerate(rows):
        for j, (label, score, corners) in enumerate(row):
            found["boxes"][i, j], found["scores"][i, j], found["labels"][i, j] = corners, score, label
    return found


@pytest.mark.parametrize(
    "cell",
    [
        [{"label": "car", "xmin": 10, "ymin": 20, "xmax": 50, "ymax": 45.5}],
        [{"category": "car", "bbox": [10, 20, 40, 25.5], "iscrowd": 0}],
        [{"label": "car", "score": 0.9, "box": {"xmin": 10, "ymin": 20, "xmax": 50, "ymax": 45.5}}],
        {"bbox": [[10, 20, 40, 25.5]], "category": ["car"], "area": [1020.0], "id": [7]},
        {"boxes": [{"label": " car ", "relative": [0.15, 0.3275, 0.2, 0.255]}], "width": 200, "height": 100},
        '[{"label": "car", "xmin": 10, "ymin": 20, "xmax": 50, "ymax": 45.5}]',
    ],
)
def test_a_cell_of_any_form_is_the_same_box(cell):
    (box,) = boxes_in(cell, WIDE)
    assert (box.label, box.ignored) == ("car", False)
    assert box[1:5] == pytest.approx((10, 20, 50, 45.5))


def test_an_empty_list_is_an_image_without_objects():
    for cell in ([], "[]", {"bbox": [], "category": []}, {"boxes": []}):
        assert boxes_in(cell, WIDE) == ()


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (None, "a list of boxes such as"),
        ("car", "a list of boxes such as"),
        ([1, 2], "a list of boxes such as"),
        ([{"label": "car"}], "a list of boxes such as"),
        ([{"label": "", "bbox": [1, 2, 3, 4]}], "a list of boxes such as"),
        ([{"label": "car", "bbox": [1, 2, 3]}], "boxes of four numbers; one has 3"),
        ([{"label": "car", "bbox": [1, 2, 3, float("nan")]}], "boxes of finite numbers; one has nan"),
        ([{"label": "car", "bbox": [1, 2, 3, "4"]}], "boxes of finite numbers; one has '4'"),
        ([{"label": "car", "bbox": [1, 2, 3, 4], "iscrowd": 2}], "0 or 1 for a box that is ignored; got 2"),
        ({"bbox": [[1, 2, 3, 4]], "category": []}, "as many category as bbox; there are 0 and 1"),
        ({"boxes": [], "width": 10, "height": 10}, "an image of 200 x 100 pixels, which it has; .* 10 x 10"),
        ({"boxes": [], "width": "10", "height": 10}, "a height and a width in pixels"),
    ],
)
def test_other_cells_are_refused_with_what_was_expected(cell, expected):
    with pytest.raises(ValueError, match=expected):
        boxes_in(cell, WIDE)


def test_boxes_are_cut_at_the_edge_and_left_out_without_area_or_outside():
    cell = [
        {"label": "a", "xmin": -5, "ymin": 0, "xmax": 50, "ymax": 120},
        {"label": "b", "xmin": 5, "ymin": 5, "xmax": 5, "ymax": 9},
        {"label": "c", "xmin": 250, "ymin": 5, "xmax": 300, "ymax": 9},
        {"label": "d", "xmin": 0, "ymin": 0, "xmax": 200.2, "ymax": 100, "difficult": 1},
    ]
    found = boxes_in(cell, WIDE)
    assert found == (Box("a", 0, 0, 50, 100), Box("d", 0, 0, 200, 100, True))
    assert found.notes == {_box_cells.CUT: 1, _box_cells.NO_AREA: 1, _box_cells.OUTSIDE: 1}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_boxes_of_stored_pixels_are_turned_with_the_image(tmp_path, orientation, suffix):
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[10:20, 30:80] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pixels).save(path, exif=exif, **({"quality": 95} if suffix == ".jpg" else {}))
    upright = np.asarray(decode(path))[..., 0] > 127
    rows, columns = np.flatnonzero(upright.any(axis=1)), np.flatnonzero(upright.any(axis=0))
    there = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    cell = {"boxes": [{"label": "a", "xmin": 30, "ymin": 10, "xmax": 80, "ymax": 20}], "width": 100, "height": 60}
    if orientation >= 5:
        (box,) = found = TASK.parse_label(cell, "|", ".", [path])
        assert box[1:5] == there
        assert found.notes == {_box_cells.TURNED: 1}
    upright_cell = [{"label": "a", **dict(zip(_box_cells.CORNERS, map(int, there), strict=True))}]
    (box,) = TASK.parse_label(upright_cell, "|", ".", [str(path)])
    assert box[1:5] == there


def test_labels_become_numbers_and_targets():
    label = TASK.parse_label([{"label": "b", "bbox": [1, 2, 3, 4], "iscrowd": 1}], "|", ".")
    assert TASK.label_names(TASK.renamed(label, {"b": "c"})) == ("c",)
    numbers = TASK.numbered(label, ["a", "b"])
    assert numbers == [1, 1, 2, 4, 6, 1]
    targets = TASK.targets([numbers, [], numbers * 2], 2)
    assert targets.dtype == np.float32
    assert targets.shape == (3, 2, 6)
    assert targets[1].tolist() == [[-1] * 6] * 2
    assert TASK.targets([[]], 2).shape == (1, 1, 6)
    with pytest.raises(ValueError, match=r"^b$"):
        TASK.numbered(label, ["a"])


def test_decode_gives_what_is_sure_enough():
    found = records([(1, 0.9, (1, 2, 3, 4)), (0, 0.5, (0, 0, 9, 9)), (0, 0.49, (0, 0, 5, 5))], [])
    whole = TASK.decode(found, ("a", "b"))
    assert [box["score"] for box in TASK.narrowed(whole[0], 0)["boxes"]] == pytest.approx([0.9, 0.5, 0.49])
    assert len(TASK.narrowed(whole[0], score_threshold=0.6)["boxes"]) == 1
    for bad in (-1, 2, "0.5", True):
        with pytest.raises(InputError, match="score_threshold must be 0 to 1"):
            TASK.narrowed(whole[0], bad)
    first, second = map(TASK.narrowed, whole)
    assert json.loads(json.dumps(first)) == first
    assert [(box["label"], box["xmax"]) for box in first["boxes"]] == [("b", 3.0), ("a", 9.0)]
    assert set(first["boxes"][0]) == {"label", "score", "xmin", "ymin", "xmax", "ymax"}
    assert second == {"boxes": []}
    surer = TASK.decode(found | {"score_threshold": np.full(2, 0.95)}, ("a", "b"))
    assert [TASK.narrowed(answer) for answer in surer] == [{"boxes": []}] * 2


def test_models_agree_where_they_show_the_same_objects():
    ours = records([(0, 0.9, (0, 0, 10, 10)), (1, 0.1, (50, 50, 60, 60))], [(0, 0.9, (0, 0, 10, 10))], [])
    near = records([(0, 0.6, (1, 0, 10, 10))], [(1, 0.9, (0, 0, 10, 10))], [(0, 0.7, (0, 0, 1, 1))])
    assert TASK.agree(ours, near).tolist() == [True, False, False]
    assert TASK.agree(ours, ours).all()


def test_score_of_right_wrong_and_undefined():
    truth = TASK.targets([[0, 0, 0, 10, 10, 0], [1, 5, 5, 9, 9, 0], []], 2)
    right = records([(0, 0.9, (0, 0, 10, 10))], [(1, 0.8, (5, 5, 9, 9))], [])
    assert TASK.score(right, truth) == dict.fromkeys(TASK.METRICS, pytest.approx(1))
    wrong = records([(1, 0.9, (0, 0, 10, 10))], [], [(0, 0.9, (0, 0, 10, 10))])
    assert TASK.score(wrong, truth) == dict.fromkeys(TASK.METRICS, 0.0)
    assert TASK.score(right, TASK.targets([[], [], []], 2)) == {}
    nothing = TASK.most_frequent(truth, 2)
    assert TASK.score({name: np.stack([array] * 3) for name, array in nothing.items()}, truth)["map"] == 0


def test_an_ignored_box_is_neither_right_nor_wrong():
    truth = TASK.targets([[0, 0, 0, 10, 10, 0, 0, 50, 50, 90, 90, 1]], 1)
    hit = (0, 0.5, (0, 0, 10, 10))
    inside = [(0, 0.9, (55, 55, 60, 60)), (0, 0.8, (70, 70, 80, 80)), hit]
    assert TASK.score(records(inside), truth)["map"] == pytest.approx(1)
    beside = [(0, 0.9, (20, 20, 30, 30)), hit]
    assert TASK.score(records(beside), truth)["map"] == pytest.approx(0.5)


def test_the_threshold_with_the_best_f1_lies_between_two_scores():
    box, off = (0, 0, 10, 10), (50, 50, 60, 60)
    truth = TASK.targets([[0, *box, 0]] * 4, 1)
    found = records(*([(0, score, box)] for score in (0.9, 0.8, 0.3)), [(0, 0.6, off), (0, 0.2, off)])
    # Two of two at 0.7, F1 4 / 6; three of four at 0.25, F1 6 / 8.
    assert _boxes.pick_threshold(found, truth) == pytest.approx(0.25)
    assert _boxes.pick_threshold(records(*([(0, 0.9, off)] for _ in range(4))), truth) is None
    same = records(*([(0, 0.5, box)] for _ in range(3)), [(0, 0.5, off)])
    assert _boxes.pick_threshold(same, truth) == pytest.approx(0.25)


def test_an_interval_holds_the_figure_and_resamples_are_matched_once():
    rng = np.random.default_rng(3)
    rows, truth = [], []
    for _ in range(30):
        x, y = rng.uniform(0, 80, 2)
        truth.append([0, x, y, x + 20, y + 20, 0])
        shift = rng.normal(0, 3)
        rows.append([(0, rng.random(), (x + shift, y, x + 20 + shift, y + 20))])
    found, targets = records(*rows), TASK.targets(truth, 1)
    before = _boxes._average_precision._matches.cache_info().misses
    low, high = significance.interval(TASK, "map", found, targets)
    assert _boxes._average_precision._matches.cache_info().misses == before + 30
    assert 0 < low < TASK.score(found, targets)["map"] < high < 1
