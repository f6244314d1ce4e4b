"""Folders of images: what is read, what is passed over, and each thing that can be wrong with one."""

from __future__ import annotations

import os

import numpy as np
import pytest
from pictures import all_rows, names_by_row, picture, picture_bytes, save_folder
from PIL import Image

from tledge.data.sources.image_folder import split_folders
from tledge.inputs.image import decode

TASK = "image_classification"

links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")


@pytest.fixture
def photos(tmp_path):
    """A folder `photos` with 12 cats and 12 dogs."""
    return save_folder(tmp_path / "photos")


def skipped(run, **keys):
    """What is said of the rows that are left out."""
    report = run("photos", task=TASK, on_error="skip", **keys).report
    return report.skipped, report.skipped_examples


def test_a_class_folder_is_a_label_and_rows_are_paths(photos, run):
    (photos / "dog" / "old" / "older").mkdir(parents=True)
    picture(90).save(photos / "dog" / "old" / "older" / "B.JPG", "jpeg")
    splits = run("photos", task=TASK, calibration=4)
    assert splits.labels == ("cat", "dog")
    by_row = names_by_row(splits)
    assert len(by_row) == 25 and by_row["cat/000.png"] == ["cat"] and by_row["dog/old/older/B.JPG"] == ["dog"]
    for row in all_rows(splits):
        assert row["image"] == {"bytes": None, "path": str(photos / row["row"])}
    assert all(list(split["row"]) == sorted(split["row"]) for split in (splits.train, splits.validation, splits.test))
    assert splits.report.sources["train"] == "photos" and splits.report.sha256 == {}
    assert splits.report.image_sides == {"p0": 9, "p5": 9, "p50": 9, "p95": 9, "p99": 9, "p100": 9}
    assert splits.report.text_lengths == {}


def test_litter_is_passed_over(photos, run):
    for name in (".DS_Store", "Thumbs.db", "cat/desktop.ini", "cat/.hidden.png", "README.txt"):
        (photos / name).write_bytes(b"x")
    for folder in (".ipynb_checkpoints", "__MACOSX"):
        (photos / folder).mkdir()
        (photos / folder / "a.png").write_bytes(b"x")
    report = run("photos", task=TASK).report
    assert report.labels == ("cat", "dog") and report.n_read == {"train": 24} and report.skipped == {}


def test_a_folder_inside_an_installed_package(tmp_path, run, monkeypatch):
    package = tmp_path / "site" / "photos_for_a_test"
    save_folder(package / "photos")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    kept = tmp_path / "elsewhere.png"
    os.replace(package / "photos" / "cat" / "000.png", kept)
    (package / "photos" / "cat" / "000.png").symlink_to(kept)  # as some installers do
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert len(all_rows(run("package:photos_for_a_test/photos", task=TASK))) == 24


def test_own_folders_for_validation_and_test(tmp_path, run, complaint):
    save_folder(tmp_path / "all" / "train")
    save_folder(tmp_path / "all" / "valid", 4, start=50)
    save_folder(tmp_path / "all" / "test", 6, start=60)
    parts = {"train": "train", "validation": "valid", "test": "test"}
    assert split_folders(tmp_path / "all") == {part: tmp_path / "all" / name for part, name in parts.items()}
    assert complaint("all", task=TASK) == (
        "data.train: all is split already; set data.train: all/train, data.validation: all/valid, data.test: all/test"
    )
    splits = run("all/train", task=TASK, validation="all/valid", test="all/test")
    assert splits.report.rows == {"train": 24, "validation": 4, "calibration": 0, "test": 6}


def test_a_folder_that_is_split_in_two(tmp_path, complaint):
    save_folder(tmp_path / "all" / "train")
    save_folder(tmp_path / "all" / "val", 4, start=50)
    assert complaint("all", task=TASK).endswith(
        "set data.train: all/train, data.validation: all/val, data.test to a fraction of the training rows"
    )


def test_classes_named_like_splits_are_classes(tmp_path, run):
    save_folder(tmp_path / "rail", 36, ("train", "bus", "test"))
    assert split_folders(tmp_path / "rail") is None and split_folders(tmp_path / "nowhere") is None
    assert run("rail", task=TASK).labels == ("bus", "test", "train")


def test_the_same_picture_in_train_and_test_is_found(tmp_path, run, complaint):
    save_folder(tmp_path / "photos")
    save_folder(tmp_path / "own", 6, start=60)
    picture(3).save(tmp_path / "own" / "dog" / "again.bmp")
    assert complaint("photos", task=TASK, test="own") == (
        "1 train row has the image of a test row, such as dog/003.png = dog/again.bmp; take them out of one file, or "
        "set data.on_overlap: drop to leave them out of the train rows"
    )
    report = run("photos", task=TASK, test="own", on_overlap="drop").report
    assert report.overlap_dropped == 1 and report.rows["test"] == 7


def test_the_same_picture_twice_is_a_duplicate_or_a_conflict(photos, run):
    picture(4).save(photos / "cat" / "twin.tiff")
    picture(5).save(photos / "cat" / "other.png")
    turned = picture(7).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned to the right
    turned.save(photos / "dog" / "turned.png", exif=exif)
    assert np.array_equal(decode(photos / "dog" / "turned.png"), picture(7))
    report = run("photos", task=TASK).report
    assert (report.duplicates, report.conflicts) == (2, 1)
    assert report.conflict_examples == ("dog/005.png (dog), kept cat/other.png (cat)",)


def test_pictures_of_one_colour_and_different_shape_differ(tmp_path, run):
    save_folder(tmp_path / "photos")
    for size in ((4, 9), (9, 4), (6, 6), (1, 36)):
        Image.new("RGB", size, "red").save(tmp_path / "photos" / "cat" / f"{size[0]}.png")
    report = run("photos", task=TASK).report
    assert (report.duplicates, report.conflicts) == (0, 0)


def test_any_format_and_mode_is_read(photos, run):
    Image.new("CMYK", (9, 9), (10, 20, 30, 0)).save(photos / "cat" / "cmyk.jpg")
    Image.fromarray(np.arange(81, dtype=np.uint16).reshape(9, 9) * 700).save(photos / "cat" / "deep.png")
    picture(91).convert("P").save(photos / "cat" / "palette.gif")
    picture(92).convert("LA").save(photos / "cat" / "alpha.PNG")
    picture(93).save(photos / "cat" / "photo.WebP", lossless=True)
    Image.new("RGB", (1, 1)).save(photos / "cat" / "pixel.png")
    report = run("photos", task=TASK).report
    assert report.n_read == {"train": 30} and report.skipped == {} and report.image_sides["p100"] == 9


def test_damaged_files_are_named(photos, run, complaint):
    (photos / "cat" / "torn.jpg").write_bytes(picture_bytes(70, "jpeg")[:-80])
    said = complaint("photos", task=TASK)
    assert said.startswith("cat/torn.jpg: ") and said.endswith("; mend the row, or set data.on_error: skip")
    assert str(photos) not in said
    (photos / "dog" / "words.png").write_text("no picture at all")
    Image.new("1", (20_000, 20_000)).save(photos / "dog" / "bomb.png")
    (photos / "dog" / "empty.png").touch()
    (photos / "dog" / "notes.txt").write_text("notes")
    (photos / "bird").mkdir()
    (photos / "bird" / ".DS_Store").touch()
    kinds, examples = skipped(run)
    assert kinds == {"broken image": 4, "empty class folder": 1, "not an image": 1}
    assert [line.partition(":")[0] for line in examples] == [
        "bird", "cat/torn.jpg", "dog/bomb.png", "dog/empty.png", "dog/notes.txt", "dog/words.png"
    ]  # fmt: skip
    assert "pixels" in examples[2] and "no known format ends in '.txt'" in examples[4]


def test_an_empty_class_folder_is_said(photos, complaint):
    (photos / "bird" / "deeper").mkdir(parents=True)
    assert complaint("photos", task=TASK) == (
        "bird: the class folder holds no image; add some, or remove the folder; mend the row, or set data.on_error: "
        "skip"
    )


def test_a_folder_without_images(tmp_path, complaint):
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("x")
    said = complaint("photos", task=TASK)
    assert said.startswith(
        f"data.train: there is no image in {tmp_path / 'photos'}; looked in its subfolders for names"
    )
    assert ".jpg, .jpeg, .png" in said and "one subfolder for each label" in said and said.endswith("holds cat")


def test_images_without_class_folders(tmp_path, complaint):
    (tmp_path / "photos").mkdir()
    picture(1).save(tmp_path / "photos" / "a.png")
    assert complaint("photos", task=TASK) == (
        f"data.train: {tmp_path / 'photos'} holds images but no class folders; expected one subfolder for each label, "
        "such as FOLDER/cat/001.jpg (or a CSV file with paths and labels)"
    )


def test_an_image_beside_the_class_folders_is_broken(photos, complaint, run):
    picture(80).save(photos / "a.png")
    assert complaint("photos", task=TASK).startswith("a.png: an image outside of any class folder; ")
    assert skipped(run)[0] == {"no class folder": 1}


def test_one_class_folder(tmp_path, complaint):
    save_folder(tmp_path / "photos", 5, ("cat",))
    assert complaint("photos", task=TASK) == (
        "photos has only one label, 'cat', in 5 rows: the task needs two; give a folder with a subfolder for each label"
    )


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["images/train/a.png", "labels/train/a.txt", "data.yaml"], "labels"),
        (["train/images/a.png", "train/labels/a.txt", "valid/images/b.png", "valid/labels/b.txt"], "train/labels"),
        (["cows/a.png", "cows/a.xml"], "cows/a.xml"),
        (["train/a.png", "train/_annotations.coco.json", "test/b.png"], "train/_annotations.coco.json"),
    ],
)
def test_pictures_with_boxes_are_no_classes(tmp_path, complaint, files, told):
    for i, name in enumerate(files):
        (tmp_path / "farm" / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            picture(i).save(tmp_path / "farm" / name)
        else:
            (tmp_path / "farm" / name).write_text("0 0.5 0.5 1 1")
    assert complaint("farm", task=TASK).startswith(
        f"data.train: {tmp_path / 'farm'} looks like data for detection: {told} describes boxes in pictures, which "
        "are named by their data.yaml (YOLO), their file (COCO), or their folder with Annotations (VOC); else expected "
        "one subfolder for each label"
    )


def test_a_class_called_labels_is_one(tmp_path, run):
    save_folder(tmp_path / "wine", 24, ("labels", "corks", "annotations"))
    assert run("wine", task=TASK).labels == ("annotations", "corks", "labels")


def test_class_folders_that_differ_in_case(photos, complaint, run):
    other = photos / "Cat"
    try:
        other.mkdir()
    except FileExistsError:
        pytest.skip("the file system does not tell upper from lower case")
    picture(80).save(other / "a.png")
    assert complaint("photos", task=TASK) == (
        "data.train: the class folders 'Cat' and 'cat' differ only in case; rename one, or give both one name with "
        "data.label_names: {cat: Cat}"
    )
    splits = run("photos", task=TASK, label_names={"Cat": "cat"})
    assert splits.labels == ("cat", "dog") and names_by_row(splits)["Cat/a.png"] == ["cat"]


@links
def test_links_stay_inside(photos, tmp_path, run):
    picture(80).save(tmp_path / "outside.png")
    (tmp_path / "elsewhere").mkdir()
    picture(81).save(tmp_path / "elsewhere" / "b.png")
    (photos / "cat" / "out.png").symlink_to(tmp_path / "outside.png")
    (photos / "cat" / "away").symlink_to(tmp_path / "elsewhere")
    (photos / "cat" / "gone.png").symlink_to(tmp_path / "nothing.png")
    (photos / "cat" / "self.png").symlink_to(photos / "cat" / "self.png")
    (photos / "cat" / "up").symlink_to(photos)
    (photos / "dog" / "round").symlink_to(photos / "cat")
    (photos / "bird").symlink_to(tmp_path / "elsewhere")
    kinds, examples = skipped(run)
    assert kinds == {"link out of the folder": 5, "broken link": 4, "link in a circle": 2}
    assert "cat/out.png: is a link that leads out of the folder; put a copy in its place" in examples
    assert any(line.startswith("bird: is a link that leads out") for line in examples)
    assert any(line.startswith("cat/gone.png: cannot be followed: No such file") for line in examples)


@links
def test_a_link_to_an_image_inside_is_its_duplicate(photos, run):
    (photos / "cat" / "again.png").symlink_to(photos / "cat" / "000.png")
    assert run("photos", task=TASK).report.duplicates == 1


@links
def test_what_may_not_be_read(photos, run, complaint, monkeypatch):
    (photos / "cat" / "secret").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert complaint("photos", task=TASK).startswith("cat/secret: the folder cannot be read: Permission denied; ")
    os.mkfifo(photos / "cat" / "pipe.png")
    assert skipped(run)[0] == {"unreadable folder": 1, "no regular file": 1}


@pytest.mark.skipif(os.name == "nt" or not os.getuid(), reason="here everything may be read")
def test_a_file_that_may_not_be_read(photos, complaint):
    (photos / "cat" / "000.png").chmod(0)
    assert complaint("photos", task=TASK).startswith("cat/000.png: cannot be read: Permission denied; ")


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are always text there")
def test_a_name_that_is_no_text(photos, run):
    (photos / "cat" / os.fsdecode(b"caf\xe9.png")).write_bytes(picture_bytes(80))
    assert skipped(run) == ({"undecodable name": 1}, ("cat/caf\\udce9.png: its name is not valid text; rename it",))


def test_every_image_broken(tmp_path, complaint):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "a.png").write_bytes(b"x")
    assert complaint("photos", task=TASK, on_error="skip").startswith(
        "photos has no usable row: 2 are broken, such as cat/a.png: is no image"
    )


def test_a_folder_of_images_for_a_text_task(photos, complaint):
    assert complaint("photos").startswith("photos has no column 'text'; its columns are 'image', 'label'")
    assert complaint("photos", columns={"text": "image"}).startswith("cat/000.png: the column 'image' holds ")


def test_rows_stay_in_order_while_threads_decode(tmp_path, run):
    save_folder(tmp_path / "photos", 300, tuple("abcdef"))
    rows = [row["row"] for row in run("photos", task=TASK, validation=6, test=6).train]
    assert rows == sorted(rows) and len(rows) == 288
