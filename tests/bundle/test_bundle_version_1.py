"""Bundles of the first version of the format open, predict and verify as those of today."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import language_bundle
import pytest
import sealing

from tledge import bundle
from tledge.errors import BundleError
from tledge.runtime import Predictor, verify


def first_version(made: Path, target: Path) -> Path:
    """A bundle as the first version wrote it: golden sentences, and labels in every case."""
    folder = Path(shutil.copytree(made, target))
    data = json.loads((folder / "bundle.json").read_text())
    golden = data["golden"]
    golden["sentences"] = [cells[0] for cells in golden.pop("values")]
    sealing.write(folder / "bundle.json", data | {"format_version": 1, "labels": data.get("labels", [])})
    return folder


@pytest.fixture(params=["text", "image", "decoder"])
def made(request, tmp_path):
    if request.param == "decoder":
        return language_bundle.shared()
    return request.getfixturevalue("tiny_bundle" if request.param == "text" else "tiny_image_bundle")


def test_it_verifies_and_answers_as_before(made, tmp_path):
    older = first_version(made, tmp_path / "older")
    ours, theirs = bundle.load(made), bundle.load(older)
    assert (ours.format_version, theirs.format_version) == (2, 1)
    assert (theirs.labels, theirs.golden) == (ours.labels, ours.golden)
    assert verify(older).passed
    values = [value for value in ours.golden.examples if value] or ["photo.png"]
    if ours.golden.images:
        from PIL import Image

        Image.new("RGB", (20, 30), "red").save(tmp_path / "photo.png")
        values = [tmp_path / "photo.png"]
    assert Predictor.load(older).predict(values[:2]) == Predictor.load(made).predict(values[:2])


@pytest.mark.parametrize("sentences", [None, "text", [1], [["a"]], []])
def test_damaged_sentences_are_refused(tiny_bundle, tmp_path, sentences):
    older = first_version(tiny_bundle, tmp_path / "older")
    data = json.loads((older / "bundle.json").read_text())
    data["golden"]["sentences"] = sentences
    sealing.write(older / "bundle.json", data)
    with pytest.raises(BundleError, match="damaged"):
        bundle.load(older)
