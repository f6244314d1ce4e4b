"""The folder that is shipped: writing it, its manifest, its hashes and its golden vectors."""

from pathlib import Path

from tledge.bundle import checksum
from tledge.bundle.decoding import Decoding, read_decoding
from tledge.bundle.manifest import (
    FORMAT_VERSION,
    Golden,
    InputSpec,
    Manifest,
    Provenance,
    find,
    find_variant,
    graph_path,
    is_sealed,
    load,
)
from tledge.bundle.write import replace_readme, write

__all__ = [
    "FORMAT_VERSION",
    "Decoding",
    "Golden",
    "InputSpec",
    "Manifest",
    "Provenance",
    "check_files",
    "find",
    "find_variant",
    "graph_path",
    "is_sealed",
    "load",
    "read_decoding",
    "replace_readme",
    "write",
]


def check_files(path: str | Path) -> list[str]:
    """What is wrong with a bundle's files, one line each (`changed: onnx/model.onnx`); empty when all are whole.

    Raises:
        BundleError: the folder is not a bundle, or its manifest is damaged.
    """
    return checksum.compare(Path(path), load(path).files).lines()
