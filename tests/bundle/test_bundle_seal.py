"""The manifest's hash of itself: no byte of it changes unseen."""

import json
import os
import re

import numpy as np
import pytest
import sealing

from tledge import bundle
from tledge.bundle import seal
from tledge.errors import BundleError
from tledge.runtime import verify


def test_what_is_sealed_holds_and_reads_as_before():
    text = json.dumps({"a": 1, "b": ["x", "é"]}, ensure_ascii=False, indent=2) + "\n"
    sealed = seal.sealed(text)
    assert seal.is_sealed(sealed.encode())
    assert seal.holds(sealed.encode())
    found = json.loads(sealed)
    assert re.fullmatch("[0-9a-f]{64}", found.pop("sha256"))
    assert found == json.loads(text)
    assert seal.holds(seal.sealed("{}").encode())


def test_the_hash_is_that_of_the_file_with_zeros(tiny_bundle):
    import hashlib

    content = (tiny_bundle / "bundle.json").read_bytes()
    digits = json.loads(content)["sha256"].encode()
    assert hashlib.sha256(content.replace(digits, b"0" * 64)).hexdigest().encode() == digits


def test_no_flip_of_a_byte_verifies(tiny_bundle):
    path = tiny_bundle / "bundle.json"
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(content), 300):
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        result = verify(tiny_bundle)
        assert [check.name for check in result.checks if not check.passed][:1] == ["manifest"], (at, bytes(damaged))


@pytest.mark.parametrize("damage", ["cut", "doubled", "spaces", "lines"])
def test_no_other_damage_verifies(damage, tiny_bundle):
    path = tiny_bundle / "bundle.json"
    content = path.read_bytes()
    changed = {
        "cut": content[:-3],
        "doubled": content + content,
        "spaces": content.replace(b"  ", b" "),
        "lines": content.replace(b"\n", b"\r\n"),
    }[damage]
    path.write_bytes(changed)
    assert not verify(tiny_bundle).passed


def test_a_changed_field_is_told_wherever_the_bundle_is_read(tiny_bundle):
    path = tiny_bundle / "bundle.json"
    path.write_text(path.read_text().replace('"accuracy": 0.8', '"accuracy": 0.9'))
    with pytest.raises(BundleError, match=r"was changed after it was written: the hash at its end is another one"):
        bundle.load(tiny_bundle)


def test_a_manifest_without_a_hash_is_read_but_does_not_verify(tiny_bundle):
    path = tiny_bundle / "bundle.json"
    facts = json.loads(path.read_text())
    del facts["sha256"]
    path.write_text(json.dumps(facts))
    assert bundle.load(tiny_bundle).name == "tiny"
    (check,) = [check for check in verify(tiny_bundle).checks if not check.passed]
    assert check.name == "manifest"
    assert "it has no hash of its own" in check.detail


def test_another_model_card_is_sealed_anew(tiny_bundle):
    bundle.replace_readme(tiny_bundle, "# Another\n")
    assert verify(tiny_bundle).passed


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": ' * 100_000, "nested too deep"),
        (b"{\xff}", "bundle.json"),
        (b"", "cannot be read as JSON"),
    ],
)
def test_hostile_content_is_one_line(content, told, tiny_bundle):
    (tiny_bundle / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=told) as error:
        bundle.load(tiny_bundle)
    assert "\n" not in str(error.value)


def test_a_pipe_is_not_read(tiny_bundle):
    (tiny_bundle / "bundle.json").unlink()
    os.mkfifo(tiny_bundle / "bundle.json")
    with pytest.raises(BundleError, match="it is no regular file"):
        bundle.load(tiny_bundle)


def test_a_knowing_hand_is_held_to_the_format(tiny_bundle):
    path = tiny_bundle / "bundle.json"
    sealing.write(path, json.loads(path.read_text()) | {"labels": 3})
    with pytest.raises(BundleError, match="is damaged"):
        bundle.load(tiny_bundle)
