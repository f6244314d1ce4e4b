"""What travels to a device."""

from __future__ import annotations

import hashlib

import pytest
from onnx import TensorProto, helper

from tledge.device import contents
from tledge.errors import BundleError

MODEL = helper.make_model(helper.make_graph([], "nothing", [], [])).SerializeToString()


def test_a_folder_and_a_file_travel_with_the_source(tmp_path):
    folder = tmp_path / "bundle"
    (folder / "onnx").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name in ("bundle.json", "onnx/model.onnx", ".git/HEAD", ".hidden"):
        (folder / name).write_text(name)
    graph = folder / "onnx" / "model.onnx"
    graph.write_bytes(MODEL)
    sent = contents.gather([folder, graph, folder])
    assert sent.words == {folder: "sent/0/bundle", graph: "sent/1/model.onnx"}
    ours = {name: file for name, file in sent.files.items() if name.startswith("sent/")}
    assert set(ours) == {"sent/0/bundle/bundle.json", "sent/0/bundle/onnx/model.onnx", "sent/1/model.onnx"}
    assert ours["sent/1/model.onnx"].sha256 == hashlib.sha256(MODEL).hexdigest()
    assert ours["sent/1/model.onnx"].size == len(MODEL)
    code = set(sent.files) - set(ours)
    assert {"code/tledge/__init__.py", "code/tledge/cli/bench.py", "code/tledge/device/far.py"} <= code
    assert all(name.endswith(".py") for name in code)


def save_apart(path, location):
    """A graph whose weights are in a file of their own."""
    (path.parent / location).parent.mkdir(parents=True, exist_ok=True)
    (path.parent / location).write_bytes(bytes(8))
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    path.write_bytes(helper.make_model(helper.make_graph([], "g", [], [], [weight])).SerializeToString())


@pytest.mark.parametrize("location", ["any name[1].bin", "weights/w"])
def test_a_graph_takes_its_weights_along_whatever_they_are_called(location, tmp_path):
    save_apart(tmp_path / "blob", location)
    for name in ("m[1].onnx.data", "m[1].onnx.old"):
        (tmp_path / name).write_text(name)
    graph = tmp_path / "m[1].onnx"
    graph.symlink_to(tmp_path / "blob")
    sent = contents.gather([graph])
    assert {name for name in sent.files if name.startswith("sent/")} == {"sent/0/m[1].onnx", f"sent/0/{location}"}
    assert sent.files[f"sent/0/{location}"].size == 8


def test_a_graph_without_its_weights_is_not_sent(tmp_path):
    save_apart(tmp_path / "m.onnx", "w.bin")
    (tmp_path / "w.bin").unlink()
    with pytest.raises(BundleError, match=r"m\.onnx has weights in 'w\.bin', which is not in .*; put it there"):
        contents.gather([tmp_path / "m.onnx"])


def test_a_folder_is_named_as_it_is_called(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    here = type(tmp_path)()
    assert contents.gather([here]).words == {here: "sent/0/mine"}


def test_a_part_of_a_folder_keeps_its_places(tmp_path):
    run = tmp_path / "run"
    for name in ("bundle/bundle.json", "quantize/answers.npz", "quantize/other.onnx", "train/weights"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    whole = contents.Part(run, ("bundle", "quantize/answers.npz"))
    answers = contents.Part(run, ("quantize/answers.npz",), named="quantize/answers.npz")
    sent = contents.gather([whole, answers])
    assert sent.words == {whole: "sent/0/run", answers: "sent/1/run/quantize/answers.npz"}
    assert sent.near == {"sent/0/run": run, "sent/1/run": run}
    assert {name for name in sent.files if name.startswith("sent/")} == {
        "sent/0/run/bundle/bundle.json", "sent/0/run/quantize/answers.npz", "sent/1/run/quantize/answers.npz",
    }  # fmt: skip


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"there is no .*/nothing"):
        contents.gather([tmp_path / "nothing"])
