"""Reading a manifest: each way in which it can be wrong gives one plain line."""

import json

import pytest
import sealing

from tledge import bundle, digest
from tledge.errors import BundleError


def edit(folder, **changes):
    path = folder / "bundle.json"
    sealing.write(path, json.loads(path.read_text()) | changes)


def without(folder, key):
    path = folder / "bundle.json"
    data = json.loads(path.read_text())
    del data[key]
    sealing.write(path, data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "bundle.json").unlink(), r"is not a bundle: it has no bundle\.json"),
        (lambda f: (f / "bundle.json").write_text('{"format_version": 1,'), "cannot be read as JSON"),
        (lambda f: (f / "bundle.json").write_bytes(b"\xff\xfe\x00"), "cannot be read"),
        (lambda f: (f / "bundle.json").write_text("[]"), "expected a JSON object, got list"),
        (lambda f: edit(f, format_version="1"), "got '1'"),
        (lambda f: edit(f, format_version=True), "got True"),
        (lambda f: edit(f, format_version=3), "has format 3, this tledge reads up to 2; upgrade tledge"),
        (lambda f: edit(f, format_version=3, variants="new shape"), "upgrade tledge"),
        (lambda f: without(f, "variants"), "is damaged: .*'variants'"),
        (lambda f: without(f, "golden"), "is damaged: .*'golden'"),
        (lambda f: edit(f, variants=3), "is damaged"),
        (lambda f: edit(f, files=["README.md"]), "is damaged"),
        (lambda f: edit(f, input="text"), "is damaged"),
        (lambda f: edit(f, labels=[1, 2]), "labels must be a text, got 1"),
        (lambda f: edit(f, chosen="int4"), "'int4' is not among fp32, int8"),
        (lambda f: edit(f, files={"../../etc/passwd": "0" * 64}), "leads out of the bundle"),
        (lambda f: edit(f, files={"/etc/passwd": "0" * 64}), "leads out of the bundle"),
        (lambda f: edit(f, files={"C:\\secret": "0" * 64}), "leads out of the bundle"),
    ],
)
def test_damaged_manifest(tiny_bundle, damage, message):
    damage(tiny_bundle)
    with pytest.raises(BundleError, match=message) as error:
        bundle.load(tiny_bundle)
    assert "\n" not in str(error.value)


def test_graph_outside_the_bundle_is_refused(tiny_bundle):
    data = json.loads((tiny_bundle / "bundle.json").read_text())
    data["variants"][0]["graph"]["path"] = "onnx/../../model.onnx"
    edit(tiny_bundle, **data)
    with pytest.raises(BundleError, match="leads out of the bundle"):
        bundle.load(tiny_bundle)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_no_folder(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match=r"is not a bundle: it (does not exist|is a file)"):
        bundle.load(tmp_path / name)


def test_keys_of_a_newer_writer_are_ignored(tiny_bundle):
    before = bundle.load(tiny_bundle)
    edit(tiny_bundle, an_addition={"of": "a later version"})
    assert bundle.load(str(tiny_bundle)) == before


def test_files_are_compared_by_name(tiny_bundle):
    (tiny_bundle / "onnx" / "model.onnx").unlink()
    (tiny_bundle / "stray.txt").write_text("stray")
    (tiny_bundle / "README.md").write_text("# Changed\n")
    (tiny_bundle / "model.sig").write_text("a signature is made after the manifest")
    (tiny_bundle / ".cache").mkdir()
    (tiny_bundle / ".cache" / "download").write_text("hidden files are nobody's")
    expected = ["missing: onnx/model.onnx", "extra: stray.txt", "changed: README.md"]
    assert bundle.check_files(tiny_bundle) == expected


def test_hash_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_text("abc")
    assert digest.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
