"""Images from tables, the hub, torchvision and arrays: each becomes the same bytes or path for the rooms after it."""

from __future__ import annotations

import json
import sys
import time
import tracemalloc

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torchvision
from labelled_rows import as_csv
from pictures import all_rows, names_by_row, picture, picture_bytes, save_folder, save_paths
from PIL import Image

from tledge.cache import cache_folder
from tledge.data import preview
from tledge.inputs.image import decode

TASK = "image_classification"


@pytest.fixture
def paths(tmp_path):
    """The rows `(path, label)` of 24 pictures."""
    return save_paths(tmp_path / "photos")


def numbers_of(splits):
    """Which pictures the rows hold, by the rows' names."""
    return {row["row"]: int(np.asarray(decode(row["image"]))[1, 0, 0]) for row in all_rows(splits)}


def test_paths_are_relative_to_the_table(paths, tmp_path, run, write):
    (tmp_path / "tables").mkdir()
    rows = [(f"../{path}" if i else str(tmp_path / path), label) for i, (path, label) in enumerate(paths)]
    write("tables/rows.csv", as_csv(rows, ("file", "label")))
    splits = run("tables/rows.csv", task=TASK, columns={"image": "file"})
    assert numbers_of(splits) == {f"rows.csv:{i + 2}": i for i in range(24)}
    assert all(row["image"]["bytes"] is None for row in all_rows(splits))
    assert splits.report.sha256.keys() == {"train"}


def test_every_table_gives_the_same(paths, tmp_path, run, write):
    rows = [{"image": path, "label": label} for path, label in paths]
    write("rows.csv", as_csv(paths, ("image", "label")))
    write(
        "rows.jsonl", "".join(json.dumps(row | {"image": {"bytes": None, "path": row["image"]}}) + "\n" for row in rows)
    )
    stored = [row | {"image": {"bytes": (tmp_path / row["image"]).read_bytes(), "path": "x.png"}} for row in rows]
    pq.write_table(pa.Table.from_pylist(stored), tmp_path / "rows.parquet")
    made = [run(name, task=TASK, folder=name[-3:]) for name in ("rows.csv", "rows.jsonl", "rows.parquet")]
    assert len({splits.fingerprint for splits in made}) == 1
    first = all_rows(made[2])[0]["image"]
    assert first["path"] is None and first["bytes"] in {row["image"]["bytes"] for row in stored}
    assert made[0].train.features == made[2].train.features


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("photos/99.png", "there is no file {}/photos/99.png"),
        ("photos", "{}/photos is a folder or no regular file, expected an image file"),
        ("https://example.com/a.png", "'https://example.com/a.png' is a web address; download the image and give its"),
        ("", "the column 'image' is empty"),
        (None, "the column 'image' is empty"),
        ({"bytes": None, "path": None}, "the column 'image' is empty"),
        ("a\0b", "there is no file {}/a\0b"),
        (7, "the column 'image' holds 7, expected a path or an image"),
        ([1, 2], "the column 'image' holds [1, 2], expected a path or an image"),
    ],
)
def test_cells_that_are_no_image(paths, tmp_path, complaint, write, cell, said):
    write("rows.jsonl", json.dumps({"image": cell, "label": "cat"}) + "\n")
    assert complaint("rows.jsonl", task=TASK).startswith(f"rows.jsonl:1: {said.format(tmp_path)}")


def test_a_broken_image_in_a_table_is_its_row(paths, tmp_path, run, write):
    (tmp_path / "photos" / "1.png").write_bytes(picture_bytes(1)[:-30])
    write("rows.csv", as_csv([*paths, ("photos/nowhere.png", "cat")], ("image", "label")))
    report = run(task=TASK, on_error="skip").report
    assert report.skipped == {"broken image": 1, "missing file": 1}
    assert report.skipped_examples[0].startswith("rows.csv:3: ")


def test_several_labels_an_image(paths, run, write):
    cells = ("a", "a|b", "")
    write("rows.csv", as_csv([(path, cells[i % 3]) for i, (path, _) in enumerate(paths)], ("image", "label")))
    splits = run(task="image_multilabel")
    assert splits.labels == ("a", "b")
    assert [names_by_row(splits)[f"rows.csv:{i}"] for i in (2, 3, 4)] == [["a"], ["a", "b"], []]


def test_a_hub_data_set_keeps_the_bytes_of_its_images(run, monkeypatch):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    cells = [{"bytes": picture_bytes(i, "jpeg"), "path": None} for i in range(24)]
    made = datasets.Dataset.from_dict({"image": cells, "label": [0, 1] * 12}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: made)
    splits = run("hub:owner/name", task=TASK)
    assert splits.labels == ("cat", "dog")
    assert {row["image"]["bytes"] for row in all_rows(splits)} == {cell["bytes"] for cell in cells}


class Shapes(torchvision.datasets.FakeData):
    """A data set of torchvision's kind."""

    classes = ("circle", "square")
    there = False

    def __init__(self, root, train=True, download=False):
        assert root.is_dir() is download
        if not (download or self.there):
            raise RuntimeError("Dataset not found or corrupted.\nYou can use download=True to download it")
        super().__init__(24 if train else 9, (3, 8, 8), 2, random_offset=int(not train) * 100)


@pytest.fixture
def shapes(monkeypatch, tmp_path):
    monkeypatch.setenv("TLEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torchvision.datasets, "Shapes", Shapes, raising=False)
    monkeypatch.setattr(torchvision.datasets, "__all__", (*torchvision.datasets.__all__, "Shapes"))


def test_a_torchvision_data_set(shapes, run):
    splits = run("torchvision:Shapes", task=TASK, test="torchvision:Shapes@test", download=True)
    assert splits.labels == ("circle", "square")
    assert splits.report.n_read == {"train": 24, "test": 9}
    assert splits.test["row"][0] == "Shapes@test:1" and splits.train["row"][0].startswith("Shapes:")
    made = Shapes(torchvision_root(), download=True)
    for row in splits.train:
        image, number = made[int(row["row"].rpartition(":")[2]) - 1]
        assert np.array_equal(decode(row["image"]), image) and row["label"] == [number]


def torchvision_root():
    return cache_folder() / "torchvision"


def test_a_torchvision_data_set_that_keeps_files_gives_their_paths(shapes, run, tmp_path, monkeypatch):
    folder = save_folder(tmp_path / "photos")

    class Filed(torchvision.datasets.ImageFolder):
        def __init__(self, root, split="train", **keys):
            super().__init__(folder, **keys)

    monkeypatch.setattr(torchvision.datasets, "Shapes", Filed)
    splits = run("torchvision:Shapes@train", task=TASK)
    assert splits.labels == ("cat", "dog")
    assert all(row["image"]["path"].startswith(str(folder)) for row in all_rows(splits))


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("torchvision:Shapes", "is not in {}; set data.download: true to download it, or put its files there"),
        ("torchvision:Shapes@val", "the data set has the splits train and test; 'val' is none of them"),
        ("torchvision:CIFAR11", "torchvision has no data set 'CIFAR11'; did you mean 'CIFAR10'?"),
        ("torchvision:CIFAR10", "torchvision:CIFAR10 is not in {}; set data.download: true"),
        ("torchvision:Flowers102@some", "cannot be opened: Unknown value 'some' for argument split"),
        ("torchvision:EMNIST", "cannot be opened: "),
        ("torchvision:", "expected torchvision:NAME, such as torchvision:CIFAR10"),
        (
            "torchvison:CIFAR10",
            "'torchvison:CIFAR10' is neither a path nor one of arrays:..., hub:..., torchvision:...",
        ),
        ("/tmp/torchvison:CIFAR10", "package:...; did you mean 'torchvision:'?"),
    ],
)
def test_a_torchvision_data_set_that_cannot_be_read(shapes, complaint, reference, said):
    line = complaint(reference, task=TASK)
    assert line.startswith("data.train: ") and said.format(torchvision_root()) in line


def test_a_download_that_fails_is_one_line(shapes, complaint, monkeypatch):
    def fail(self, root, train=True, download=False):
        raise OSError("<urlopen error no route>")

    monkeypatch.setattr(Shapes, "__init__", fail)
    assert complaint("torchvision:Shapes", task=TASK, download=True) == (
        "data.train: torchvision:Shapes cannot be downloaded: <urlopen error no route>; it belongs in "
        f"{torchvision_root()}"
    )


def test_a_torchvision_data_set_of_another_task(shapes, complaint, monkeypatch):
    monkeypatch.setattr(Shapes, "there", True)
    monkeypatch.setattr(Shapes, "__getitem__", lambda self, i: (picture(i), {"boxes": []}))
    assert complaint("torchvision:Shapes", task=TASK).endswith(
        "torchvision:Shapes is no data set for classification: a row should be an image and its class's number"
    )


GIVEN = {
    "tuple": (
        np.stack([np.asarray(picture(i)) for i in range(24)]),
        np.arange(24) % 3 / 3,
        np.array([b"a", b"b"] * 12),
    ),
    "gray": {"0": np.arange(24 * 64, dtype=np.uint16).reshape(24, 8, 8) * 40, "1": np.arange(24) % 3 / 3},
    "list": [[picture(i) for i in range(24)], [i % 3 / 3 for i in range(24)]],
    "lengths": (np.zeros((3, 8, 8), np.uint8), np.arange(4)),
    "single": (np.zeros((3, 8, 8), np.uint8), 7),
    "else": "nothing",
}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module whose functions give arrays."""
    lines = [f"def {name}_(): return given['{name}']" for name in GIVEN]
    name = f"arrays_for_a_test_{time.monotonic_ns()}"
    (tmp_path / f"{name}.py").write_text("\n".join(["given = None", "def fails(): raise OSError('gone')", *lines]))
    monkeypatch.syspath_prepend(tmp_path)
    __import__(name).given = GIVEN
    return name


@pytest.mark.parametrize("name", ["tuple", "gray", "list"])
def test_arrays_from_a_function(module, run, name):
    names = {"0.0": "none", "0.3333333333333333": "some", "0.6666666666666666": "more"}
    keys = {"task": TASK, "columns": {"image": "0", "label": "1"}, "label_names": names}
    splits = run(f"arrays:{module}:{name}_", **keys)
    assert splits.labels == ("more", "none", "some")
    assert names_by_row(splits)[f"{name}_:2"] == ["some"] and len(all_rows(splits)) == 24
    assert splits.report.sources["train"] == f"{module}:{name}_"
    for row in all_rows(splits):
        given = (GIVEN[name]["0"] if name == "gray" else GIVEN[name][0])[int(row["row"].partition(":")[2]) - 1]
        assert np.array_equal(decode(row["image"]), decode(given))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("{}:lengths_", "expected arrays of one length, one for each column; got '0': 3, '1': 4"),
        ("{}:single_", "expected arrays of one length, one for each column; got '0': 3, '1': no array"),
        ("{}:else_", "gives str, expected a tuple or a mapping of arrays"),
        ("{}:fails", "the function failed: gone"),
        ("{}:fail", "has no function 'fail'; did you mean 'fails'?"),
        ("no_such_package.photos:load", "is the package 'no_such_package' installed? try: pip install no_such_package"),
        ("numpy", "expected arrays:MODULE:FUNCTION"),
    ],
)
def test_arrays_that_cannot_be_had(module, complaint, function, said):
    assert said in complaint(f"arrays:{function.format(module)}", task=TASK)


def test_arrays_of_a_file(tmp_path, run, complaint):
    pixels = np.stack([np.asarray(picture(i)) for i in range(24)])
    np.savez(tmp_path / "rows.npz", image=pixels, label=np.array(["cat", "dog"] * 12))
    splits = run("rows.npz", task=TASK)
    assert numbers_of(splits) == {f"rows.npz:{i + 1}": i for i in range(24)} and splits.labels == ("cat", "dog")
    np.savez(tmp_path / "objects.npz", image=pixels, label=np.array([{}] * 24, dtype=object))
    assert complaint("objects.npz", task=TASK).startswith("objects.npz cannot be read as arrays: Object arrays cannot")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "rows.npz").read_bytes()[:-400])
    assert complaint("torn.npz", task=TASK).startswith("torn.npz cannot be read as arrays: ")


def test_arrays_of_another_shape_are_broken_rows(tmp_path, complaint):
    np.savez(tmp_path / "rows.npz", image=np.zeros((4, 8, 8), np.float32), label=np.array(["cat", "dog"] * 2))
    said = complaint("rows.npz", task=TASK)
    assert said.startswith("rows.npz:1: expected an array (height, width)") and "float32" in said


def test_a_single_colour_channel_stays_one(tmp_path, run):
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (24, 40, 40), dtype=np.uint8)
    np.savez(tmp_path / "rows.npz", image=pixels, label=np.array(["cat", "dog"] * 12))
    stored = [row["image"]["bytes"] for row in run("rows.npz", task=TASK).train]
    assert max(map(len, stored)) < 1.2 * 40 * 40


def test_stored_images_do_not_stay_in_memory(tmp_path, run):
    rng = np.random.default_rng(3)
    noise = [rng.integers(0, 256, (190, 190, 3), dtype=np.uint8).tobytes() for _ in range(8)]
    header = b"P6 190 190 255\n"
    cells = [{"bytes": header + i.to_bytes(3) + noise[i % 8][3:], "path": None} for i in range(800)]
    pq.write_table(
        pa.table({"image": cells, "label": ["cat", "dog"] * 400}), tmp_path / "rows.parquet", row_group_size=50
    )
    del cells
    tracemalloc.start()
    try:
        splits = run("rows.parquet", task=TASK)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(all_rows(splits)) == 800
    assert peak < 40_000_000 < 800 * len(noise[0]) / 2, peak


@pytest.mark.slow
@pytest.mark.demo
def test_solar_cells(run):
    pytest.importorskip("elpv_dataset", reason="the demo extra is not installed")
    names = {f"{n / 3}": "functional" if n < 2 else "defective" for n in range(4)}
    splits = run(
        "arrays:elpv_dataset.utils:load_dataset",
        task=TASK,
        columns={"image": "0", "label": "1"},
        label_names=names,
        calibration=100,
    )
    assert splits.labels == ("defective", "functional")
    assert splits.report.n_read == {"train": 2624} and splits.report.image_sides["p0"] == 300


def test_a_look_at_a_folder(tmp_path):
    save_folder(tmp_path / "photos", 30, ("cat", "dog", "emu"))
    (tmp_path / "photos" / "cat" / "notes.txt").touch()
    seen = preview("photos", base=tmp_path)
    assert (seen.task, seen.input_columns[0], seen.label_column) == (TASK, "image", "label")
    assert seen.labels == {"cat": 10, "dog": 10, "emu": 10} and (seen.n_rows, seen.n_broken) == (30, 1)
    assert seen.is_folder and seen.size_bytes is None


def test_a_look_at_a_sorted_folder_larger_than_the_sample(tmp_path, monkeypatch):
    save_folder(tmp_path / "photos", 30)
    monkeypatch.setattr(sys.modules["tledge.data.preview"], "LOOKED_AT", 5)
    assert preview("photos", base=tmp_path).labels == {"cat": 15, "dog": 15}


def test_a_look_at_a_table_of_paths(paths, tmp_path, write):
    rows = [(path, i, f"note {i}", i / 4, label) for i, (path, label) in enumerate(paths)]
    write("rows.csv", as_csv(rows, ("photo", "id", "remark", "weight", "kind")))
    seen = preview("rows.csv", base=tmp_path)
    assert (seen.task, seen.input_columns[0], seen.label_column) == (TASK, "photo", "kind")
    assert seen.columns["photo"] == "image" and not seen.is_folder
    number = preview("rows.csv", base=tmp_path, task="image_regression")
    assert (number.task, number.label_column, number.labels) == ("image_regression", "weight", {})
    words = preview("rows.csv", base=tmp_path, task="text_classification")
    assert (words.task, words.input_columns[0]) == ("text_classification", "remark")


def test_texts_beside_paths_are_texts(tmp_path, write):
    write("rows.csv", as_csv([(f"said {i}", f"{i}.png", i % 2) for i in range(20)], ("text", "avatar", "label")))
    assert preview("rows.csv", base=tmp_path).task == "text_classification"


def test_a_look_at_images_in_a_table(tmp_path):
    cells = [{"bytes": picture_bytes(i), "path": f"{i}.png"} for i in range(12)]
    pq.write_table(pa.table({"img": cells, "tags": [["a"], ["a", "b"]] * 6}), tmp_path / "rows.parquet")
    seen = preview("rows.parquet", base=tmp_path)
    assert (seen.task, seen.input_columns[0], seen.label_column) == ("image_multilabel", "img", "tags")
    assert seen.labels == {"a": 12, "b": 6}


def keras_file(path, **more):
    """60 pictures to train on and 12 to test on, as `keras.datasets` stores them."""
    arrays = {}
    for part, count, start in (("train", 60, 0), ("test", 12, 60)):
        arrays[f"x_{part}"] = np.stack([np.asarray(picture(start + i)) for i in range(count)])
        arrays[f"y_{part}"] = np.arange(count, dtype=np.uint8)[:, None] % 3
    np.savez(path, **arrays, **more)


def test_an_npz_file_of_keras_is_train_and_test(tmp_path, run, complaint):
    keras_file(tmp_path / "cifar.npz")
    keys = {"task": TASK, "columns": {"image": "x", "label": "y"}}
    report = run("cifar.npz", test="cifar.npz", **keys).report
    assert report.n_read == {"train": 60, "test": 12} and report.labels == ("0", "1", "2")
    alone = run("cifar.npz", **keys).report
    assert alone.n_read == {"train": 60}
    assert alone.read_as == {"train": "cifar.npz without x_test, y_test"}
    assert complaint("cifar.npz", validation="cifar.npz", **keys) == (
        "data.validation: cifar.npz has no arrays for it; its arrays are x_train, y_train, x_test, y_test; give "
        "another file, or a fraction of the training rows"
    )
    seen = preview("cifar.npz", base=tmp_path)
    assert (seen.task, seen.input_columns[0], seen.label_column, seen.n_rows) == (TASK, "x", "y", 60)
    keras_file(tmp_path / "more.npz", x_val=np.zeros((2, 9, 12, 3), np.uint8), y_val=np.zeros(2, np.uint8))
    assert run("more.npz", validation="more.npz", **keys).report.n_read == {"train": 60, "validation": 2}


def test_an_image_whose_content_is_its_transparency_is_said(tmp_path, run, complaint):
    save_folder(tmp_path / "icons")
    icon = Image.new("RGBA", (9, 9), (0, 0, 0, 0))
    icon.putpixel((4, 4), (0, 0, 0, 255))
    Image.new("RGBA", (9, 8), (0, 0, 0, 0)).save(tmp_path / "icons" / "cat" / "empty.png")  # nothing is lost there
    seen = icon.copy()
    seen.putpixel((4, 4), (9, 0, 0, 255))
    seen.save(tmp_path / "icons" / "cat" / "seen.png")
    assert run("icons", task=TASK).report.n_read == {"train": 26}
    icon.save(tmp_path / "icons" / "cat" / "icon.png")
    assert complaint("icons", task=TASK).startswith(
        "cat/icon.png: one colour throughout, with all of its content in the transparency, which is dropped; put it on "
    )
    Image.new("L", (9, 9)).convert("P").save(tmp_path / "icons" / "dog" / "palette.gif", transparency=0)
    report = run("icons", task=TASK, on_error="skip").report
    assert report.skipped == {"transparent image": 1} and report.n_read == {"train": 28}
    arrays = np.stack([np.asarray(icon)] * 2)
    np.savez(tmp_path / "icons.npz", image=arrays, label=np.array(["cat", "dog"]))
    assert complaint("icons.npz", task=TASK).startswith("icons.npz:1: one colour throughout")
