"""Pictures with boxes, as COCO's, VOC's, YOLO's and JSON lines' files tell them, and what is said of broken ones."""

import json
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from PIL import Image

from tledge import data, tables, tasks
from tledge.data.sources import Options, open_source
from tledge.errors import DataError
from tledge.gate import rows as gate_rows
from tledge.gate.budget import RowsFile
from tledge.inputs._image_decode import shape_of
from tledge.recipe.schema import Data
from tledge.tables import coco, pictures
from tledge.tasks import _box_cells

TASK = tasks.load("object_detection")
BOXES = {
    "a": [("car", 10, 20, 50, 40), ("bus", 0, 0, 30, 30)],
    "b": [("car", 5, 5, 25, 35)],
    "c": [],
    "d": [("bus", 40, 10, 80, 50), ("car", 1, 2, 9, 8)],
}
SIZE = (80, 60)
LABELS = ["bus", "car"]


def save(path, seed, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def save_all(folder, boxes=BOXES):
    for seed, name in enumerate(boxes):
        save(folder / f"{name}.png", seed)


def coco_of(boxes=BOXES, ids=(3, 90)):
    numbers = dict(zip(LABELS, ids, strict=True))
    rows = [(i, box) for i, name in enumerate(boxes) for box in boxes[name]]
    return {
        "images": [
            {"id": 10 + i, "file_name": f"{name}.png", "width": 80, "height": 60} for i, name in enumerate(boxes)
        ],
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": [
            {
                "id": number, "image_id": 10 + i, "category_id": numbers[label], "iscrowd": 0,
                "bbox": [x, y, right - x, bottom - y], "area": 1,
            }
            for number, (i, (label, x, y, right, bottom)) in enumerate(rows, start=1)
        ],
    }  # fmt: skip


def write_coco(folder, found=None, name="_annotations.coco.json"):
    save_all(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(found or coco_of()))
    return folder


def voc_of(boxes, size=SIZE):
    objects = "".join(
        f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
        f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for label, x, y, right, bottom in boxes
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"


def write_voc(folder, *, flat=False):
    save_all(folder if flat else folder / "JPEGImages")
    place = folder if flat else folder / "Annotations"
    place.mkdir(exist_ok=True)
    for name, boxes in BOXES.items():
        (place / f"{name}.xml").write_text(voc_of(boxes))
    return folder


def write_yolo(folder, text="train: images/train\nval: images/val\nnames: [bus, car]\n"):
    save_all(folder / "images" / "train")
    (folder / "labels" / "train").mkdir(parents=True)
    for name, boxes in BOXES.items():
        lines = [
            f"{LABELS.index(label)} {(x + right) / 160} {(y + bottom) / 120} {(right - x) / 80} {(bottom - y) / 60}"
            for label, x, y, right, bottom in boxes
        ]
        (folder / "labels" / "train" / f"{name}.txt").write_text("\n".join(lines))
    save(folder / "images" / "val" / "e.png", 9)
    (folder / "labels" / "val").mkdir()
    (folder / "labels" / "val" / "e.txt").write_text("1 0.5 0.5 1 1\n")
    (folder / "data.yaml").write_text(text)
    return folder


def rows(reference, base, part="train"):
    """Label names and whole numbers of the boxes of each row, by its picture, and the source."""
    source = open_source(str(reference), "data.train", Options(part=part), base=base)
    found = {}
    for row in source.read(None):
        assert row.problem is None, row.problem
        label = TASK.parse_label(row.cells["objects"], "|", ".", [row.cells["image"]])
        found[row.cells["image"].rpartition("/")[2][:1]] = [
            (box.label, *(round(x, 6) for x in box[1:5])) for box in label
        ]
    return found, source


def test_each_layout_gives_the_same_boxes(tmp_path):
    for name, write, reference in (
        ("coco", write_coco, "coco"),
        ("coco_file", write_coco, "coco_file/_annotations.coco.json"),
        ("voc", write_voc, "voc"),
        ("flat", lambda folder: write_voc(folder, flat=True), "flat"),
        ("yolo", write_yolo, "yolo"),
        ("yolo_file", write_yolo, "yolo_file/data.yaml"),
    ):
        write(tmp_path / name)
        found, source = rows(reference, tmp_path)
        assert found == {key: [tuple(box) for box in boxes] for key, boxes in BOXES.items()}, name
        assert (source.columns, source.task, source.notes) == (("image", "objects"), "object_detection", {})
        assert source.size == source.done() == 4


def test_ids_of_the_source_are_kept(tmp_path):
    assert rows(write_coco(tmp_path / "coco"), tmp_path)[1].label_ids == {"bus": 3, "car": 90}
    assert rows(write_yolo(tmp_path / "yolo"), tmp_path)[1].label_ids == {"bus": 0, "car": 1}


def test_pictures_of_coco_are_found_beside_its_annotations(tmp_path):
    save_all(tmp_path / "set" / "train2017")
    (tmp_path / "set" / "annotations").mkdir()
    file = tmp_path / "set" / "annotations" / "instances_train2017.json"
    file.write_text(json.dumps(coco_of()))
    assert rows(file, tmp_path)[0] == rows("set", tmp_path)[0] == {k: [tuple(b) for b in v] for k, v in BOXES.items()}


def test_lists_and_parts(tmp_path):
    voc = write_voc(tmp_path / "voc")
    (voc / "ImageSets" / "Main").mkdir(parents=True)
    for part, names in (("train", "a\nb\na\n"), ("val", "c\nd\n")):
        (voc / "ImageSets" / "Main" / f"{part}.txt").write_text(names)
    found, source = rows("voc/ImageSets/Main/train.txt", tmp_path)
    assert list(found) == ["a", "b"]
    assert source.notes == {pictures.TWICE: 1}
    with pytest.raises(
        DataError, match=r"voc is split already; set data.train: .*train.txt, data.validation: .*val.txt"
    ):
        rows("voc", tmp_path)
    yolo = write_yolo(tmp_path / "yolo")
    assert list(rows("yolo/data.yaml", tmp_path, "validation")[0]) == ["e"]
    with pytest.raises(DataError, match=r"data.yaml names no test pictures \(test:\); it has train, val"):
        rows("yolo", tmp_path, "test")
    (yolo / "data.yaml").write_text("train: ../images/train\nvalid: images/val\nnames: {0: bus, 1: car}\nnc: 2\n")
    assert list(rows("yolo/data.yaml", tmp_path, "validation")[0]) == ["e"]
    (yolo / "list.txt").write_text("images/train/a.png\n./images/train/d.png\n")
    (yolo / "data.yaml").write_text("path: .\ntrain: list.txt\nnames: [bus, car]\n")
    assert list(rows("yolo/data.yaml", tmp_path)[0]) == ["a", "d"]
    for part in ("train", "valid"):
        write_coco(tmp_path / "robo" / part)
    with pytest.raises(
        DataError, match=r"robo is split already; set data.train: .*robo/train, data.validation: .*valid"
    ):
        rows("robo", tmp_path)


def test_the_parts_of_a_data_set_are_found(tmp_path):
    voc = write_voc(tmp_path / "voc")
    lists = voc / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for part in ("train", "val", "test", "trainval"):
        (lists / f"{part}.txt").write_text("a\n")
    parts = {
        part: lists / f"{name}.txt" for part, name in (("train", "train"), ("validation", "val"), ("test", "test"))
    }
    assert data.split_places(voc) == parts
    yolo = write_yolo(tmp_path / "yolo")
    assert data.split_places(yolo) == dict.fromkeys(("train", "validation"), yolo / "data.yaml")
    for part in ("train", "valid"):
        write_coco(tmp_path / "robo" / part)
    assert data.split_places(tmp_path / "robo") == {
        "train": tmp_path / "robo" / "train", "validation": tmp_path / "robo" / "valid"
    }  # fmt: skip
    for part in ("train", "val"):
        write_coco(tmp_path / "coco", name=f"annotations/instances_{part}2017.json")
    assert list(data.split_places(tmp_path / "coco")) == ["train", "validation"]
    with pytest.raises(DataError, match=r"coco is split already; set data.train: .*instances_train2017.json, data.val"):
        rows("coco", tmp_path)
    assert data.split_places(write_coco(tmp_path / "one")) is None


def test_a_preview_tells_the_task_and_counts_labels(tmp_path):
    for name, write in (("voc", write_voc), ("yolo", write_yolo), ("coco", write_coco)):
        seen = data.preview(str(write(tmp_path / name)), base=tmp_path)
        assert (seen.task, seen.input_columns, seen.label_column) == ("object_detection", ("image",), "objects")
        assert (seen.labels, seen.n_rows) == ({"car": 3, "bus": 2}, 4)
    write_lines(tmp_path / "rows.jsonl", many(tmp_path))
    assert data.preview("rows.jsonl", base=tmp_path).task == "object_detection"


def test_outlines_of_yolo_are_read_as_their_boxes(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "labels" / "train" / "a.txt").write_text("1 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.75\n")
    assert rows("data.yaml", tmp_path)[0]["a"] == [("car", 20, 15, 60, 45)]


def problems(reference, base):
    source = open_source(str(reference), "data.train", Options(), base=base)
    told = [f"{row.name}: {row.problem.detail}" for row in source.read(None) if row.problem is not None]
    return told, source.notes


def test_labels_without_pictures_and_pictures_without_labels(tmp_path):
    voc = write_voc(tmp_path / "voc")
    (voc / "Annotations" / "c.xml").unlink()
    (voc / "JPEGImages" / "a.png").unlink()
    assert problems("voc", tmp_path) == ([], {pictures.NO_LABELS: 1, pictures.NO_PICTURE: 1})
    (voc / "ImageSets").mkdir()
    (voc / "ImageSets" / "all.txt").write_text("a\nb\nc\n")
    told, notes = problems("voc/ImageSets/all.txt", tmp_path)
    assert notes == {pictures.NO_LABELS: 1}
    assert told == [f"all.txt:a: there is no picture of that name for {voc / 'Annotations' / 'a.xml'}"]
    yolo = write_yolo(tmp_path / "yolo")
    (yolo / "labels" / "train" / "b.txt").unlink()
    (yolo / "images" / "train" / "c.png").unlink()
    assert problems("yolo", tmp_path) == ([], {pictures.NO_LABELS: 1, pictures.NO_PICTURE: 1})
    found = coco_of()
    found["images"] = found["images"][:3]
    folder = write_coco(tmp_path / "coco", found)
    assert problems("coco", tmp_path) == ([], {coco.NOWHERE: 2, coco.UNNAMED: 1})
    (folder / "b.png").unlink()
    with pytest.raises(DataError, match=r"_annotations.coco.json:b.png: there is no file .*b.png; mend the row"):
        run(tmp_path, train="coco", test=0.3, validation=0.3)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c["images"].append(c["images"][0]), "the picture 10 is there twice, as 'a.png' and 'a.png'"),
        (
            lambda c: c["categories"].append({"id": 3, "name": "van"}),
            "the category 3 is there twice, as 'bus' and 'van'",
        ),
        (lambda c: c.update(categories=[]), "has no categories"),
        (lambda c: c.update(images=[]), "has no picture with boxes"),
        (lambda c: c.update(annotations={}), "'annotations' is no list of objects"),
        (lambda c: c["images"].append({"id": 1}), r"images\[4\] has no id or no file_name"),
        (lambda c: c["categories"].append({"id": "x", "name": "van"}), "a category without a number id and a name"),
    ],
)
def test_a_file_of_coco_that_contradicts_itself_is_refused(tmp_path, change, expected):
    found = coco_of()
    change(found)
    write_coco(tmp_path / "coco", found)
    with pytest.raises(DataError, match=expected):
        problems("coco", tmp_path)


def test_unknown_classes_malformed_boxes_and_double_ids(tmp_path):
    found = coco_of()
    found["annotations"][0]["category_id"] = 7
    found["annotations"].append(found["annotations"][1])
    found["annotations"].append(found["annotations"][2] | {"bbox": [0, 0, 1, 1]})
    write_coco(tmp_path / "coco", found)
    told, notes = problems("coco", tmp_path)
    assert told == ["_annotations.coco.json:a.png: a box of the category 7, which is none of the file's: 3, 90"]
    assert notes == {coco.REPEATED: 1, coco.SHARED_ID: 1}
    yolo = write_yolo(tmp_path / "yolo")
    lines = {"a": "2 0.5 0.5 1 1", "b": "1 0.5 0.5 1", "c": "1 40 30 20 20", "d": "car 0.5 0.5 1 1"}
    for name, line in lines.items():
        (yolo / "labels" / "train" / f"{name}.txt").write_text(line)
    told, _ = problems("yolo", tmp_path)
    shares = "expected a number of a label, and x, y, width and height as shares of the picture, 0 to 1"
    assert [each.partition(": ")[2] for each in told] == [
        "a.txt:1: the class '2' is none of the names, which are 0 to 1",
        f"b.txt:1: '1 0.5 0.5 1'; {shares}",
        f"c.txt:1: '1 40 30 20 20'; {shares}",
        "d.txt:1: the class 'car' is none of the names, which are 0 to 1",
    ]
    voc = write_voc(tmp_path / "voc")
    (voc / "Annotations" / "a.xml").write_text("<annotation>")
    (voc / "Annotations" / "b.xml").write_text(voc_of([("car", 1, 2, "x", 4)]))
    (voc / "Annotations" / "c.xml").write_text("<!DOCTYPE a><annotation/>")
    (voc / "Annotations" / "d.xml").write_text("<note/>")
    told, _ = problems("voc", tmp_path)
    assert len(told) == 4
    for line, expected in zip(told, ("is no XML", "without four numbers", "document type", "a <note>"), strict=True):
        assert expected in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: images/train\n", "has no names"),
        ("train: images/train\nnames: bus\n", "names is 'bus'"),
        ("train: images/train\nnames: [bus, bus]\n", "the label 'bus' is there twice"),
        ("train: images/train\nnames: [bus]\nnc: 2\n", "nc is 2, and there are 1 names"),
        ("train: nowhere\nnames: [bus, car]\n", "data.yaml:1: there is no .*nowhere; expected a folder of pictures"),
        ("train: labels/val\nnames: [bus, car]\n", "has no picture with boxes"),
        ("names: [bus, car", "not valid YAML"),
    ],
)
def test_a_data_yaml_that_is_none_is_refused(tmp_path, text, expected):
    write_yolo(tmp_path, text)
    with pytest.raises(DataError, match=expected):
        problems("data.yaml", tmp_path)


def run(base, **settings):
    return data.load(Data(**settings), TASK, seed=1, folder=base / "out", base=base, calibration=2)


def many(folder, count=24, label=lambda i: LABELS[i % 2]):
    """JSON lines of pictures with one box each, and a background."""
    lines = []
    for i in range(count):
        save(folder / "images" / f"{i}.png", i)
        box = {"label": label(i), "xmin": 5, "ymin": 5, "xmax": 20 + i + 0.25, "ymax": 30}
        lines.append({"image": f"images/{i}.png", "objects": [box] if i else []})
    return lines


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_rows_of_json_lines_are_split_and_keep_fractions(tmp_path):
    lines = many(tmp_path)
    lines[1]["objects"].append({"label": "car", "xmin": 5, "ymin": 5, "xmax": 5, "ymax": 9})
    lines[2]["objects"][0]["xmin"] = -9
    write_lines(tmp_path / "rows.jsonl", lines)
    splits = run(tmp_path, train="rows.jsonl")
    report = data.open_splits(tmp_path / "out").report
    assert splits.labels == ("bus", "car")
    assert report.notes == {_box_cells.NO_AREA: 1, _box_cells.CUT: 1}
    assert sum(report.rows.values()) == 24
    assert sum(counts["car"] for counts in report.label_counts.values()) == 12
    found = {row["row"]: row["label"] for part in data.stored.SPLITS for row in getattr(splits, part)}
    assert found["rows.jsonl:2"] == [1, 5, 5, 21.25, 30, 0]
    assert found["rows.jsonl:1"] == []
    targets = TASK.targets(splits.train["label"], 2)
    assert targets.shape[1:] == (1, 6)
    assert set(targets[:, 0, 0].tolist()) <= {-1, 0, 1}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda lines: lines[3].update(objects=None), "rows.jsonl:4: .*expected a list of boxes such as"),
        (lambda lines: [line.update(objects=[]) for line in lines], "no label in any of 24 rows: the task needs one"),
        (lambda lines: lines[3].update(image="gone.png"), "rows.jsonl:4: there is no file"),
        (lambda lines: lines[3]["objects"][0].update(label=""), "rows.jsonl:4: .*expected a list of boxes"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path, change, expected):
    lines = many(tmp_path)
    change(lines)
    write_lines(tmp_path / "rows.jsonl", lines)
    with pytest.raises(DataError, match=expected):
        run(tmp_path, train="rows.jsonl")


def test_a_test_file_with_a_class_that_training_lacks_is_refused(tmp_path):
    lines = many(tmp_path)
    write_lines(tmp_path / "rows.jsonl", lines[:20])
    lines[22]["objects"][0]["label"] = "van"
    write_lines(tmp_path / "test.jsonl", lines[20:])
    with pytest.raises(DataError, match=r"test.jsonl:3: the label 'van' is not known; known are 'bus', 'car'"):
        run(tmp_path, train="rows.jsonl", test="test.jsonl")


def test_a_picture_of_one_pixel_is_read(tmp_path):
    lines = many(tmp_path)
    save(tmp_path / "images" / "3.png", 3, (1, 1))
    lines[3]["objects"] = [{"label": "car", "xmin": 0, "ymin": 0, "xmax": 1, "ymax": 1}]
    write_lines(tmp_path / "rows.jsonl", lines)
    assert run(tmp_path, train="rows.jsonl").report.rows["train"]


def test_other_tasks_are_told_which_task_the_rows_are_of(tmp_path):
    write_voc(tmp_path / "voc")
    with pytest.raises(DataError, match="voc has no column 'label': its rows are those of the task object_detection"):
        data.load(Data(train="voc"), tasks.load("image_classification"), seed=1, folder=tmp_path / "out", base=tmp_path)


def test_the_device_reads_the_same_files(tmp_path):
    write_coco(tmp_path / "coco")
    write_yolo(tmp_path / "yolo", "train: images/train\ntest: images/val\nnames: [bus, car]\n")
    for path, count in (("coco", 4), ("coco/_annotations.coco.json", 4), ("yolo/data.yaml", 1), ("yolo", 1)):
        assert len(list(tables.whole_rows(tables.open_table(tmp_path / path)))) == count


@pytest.mark.parametrize("is_list", [False, True])
def test_a_hub_data_set_has_boxes_with_class_names(tmp_path, monkeypatch, is_list):
    lines = many(tmp_path)
    boxes = [[[float(x) for x in (b["xmin"], b["ymin"], 15, 25)] for b in line["objects"]] for line in lines]
    numbers = [[LABELS.index(b["label"]) for b in line["objects"]] for line in lines]
    names, corners = datasets.ClassLabel(names=LABELS), datasets.List(datasets.Value("float32"))
    if is_list:
        feature = datasets.List({"bbox": corners, "category": names})
        rows_ = zip(boxes, numbers, strict=True)
        cells = [[{"bbox": b, "category": n} for b, n in zip(*row, strict=True)] for row in rows_]
    else:
        feature = {"bbox": datasets.List(corners), "category": datasets.List(names)}
        cells = [{"bbox": b, "category": n} for b, n in zip(boxes, numbers, strict=True)]
    images = [{"bytes": (tmp_path / line["image"]).read_bytes(), "path": None} for line in lines]
    features = datasets.Features({"image": datasets.Image(decode=False), "objects": feature})
    loaded = datasets.Dataset.from_dict({"image": images, "objects": cells}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: loaded)
    splits = run(tmp_path, train="hub:owner/cars")
    assert splits.labels == ("bus", "car")
    found = {row["row"]: row["label"] for part in data.stored.SPLITS for row in getattr(splits, part)}
    assert found["hub:owner/cars:2"] == [1, 5, 5, 20, 30, 0]
    assert found["hub:owner/cars:1"] == []


def test_the_gate_reads_files_of_boxes_beside_their_pictures(tmp_path):
    write_lines(tmp_path / "rows.jsonl", many(tmp_path, 3))
    write_coco(tmp_path / "coco")
    manifest = SimpleNamespace(task="object_detection", labels=("bus", "car"))
    encoder = SimpleNamespace(
        decodes=True, expected="a path", holds=lambda cell: isinstance(cell, str), check=shape_of,
        of_cells=lambda cells, folder: folder / cells[0],
    )  # fmt: skip
    for name, count in (("rows.jsonl", 3), ("coco", 4), ("coco/_annotations.coco.json", 4)):
        found = gate_rows.read(RowsFile(tmp_path / name, {}, {}, "|"), manifest, encoder)
        assert len(found.values) == count
        assert found.targets(TASK, manifest.labels).shape[0] == count
    other = SimpleNamespace(task="object_detection", labels=("bus",))
    with pytest.raises(DataError, match="the label 'car' is not the bundle's, which has bus"):
        gate_rows.read(RowsFile(tmp_path / "coco", {}, {}, "|"), other, encoder)
