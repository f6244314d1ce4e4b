"""A bundle that is opened for the gate: the new one, or the old one that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tledge import bundle, inputs
from tledge.bench.targets import LENGTH, Target, of_bundle
from tledge.bundle import Manifest, checksum
from tledge.digest import sha256
from tledge.errors import BundleError, InputError, did_you_mean
from tledge.inputs import Input


@dataclass(frozen=True, slots=True)
class Side:
    """A bundle that is opened; `variants` is the run's folder of variants, `None` for a bundle alone."""

    path: Path
    folder: Path
    manifest: Manifest
    encoder: Input
    variants: Path | None

    @property
    def version(self) -> str:
        """The first twelve digits of the manifest's SHA-256."""
        return sha256(self.folder / "bundle.json")[:12]

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.manifest.name} {self.version}"

    def graph(self, variant: str) -> Path:
        """The ONNX file of a variant.

        Raises:
            BundleError: it is missing, or not the one of the manifest.
        """
        return bundle.graph_path(self.folder, self.manifest.variant(variant))

    def variant(self, asked: str | None) -> str:
        """The name of the variant that is asked for, by default the chosen one.

        Raises:
            InputError: there is no such variant.
        """
        name, known = asked or self.manifest.chosen, [each.name for each in self.manifest.variants]
        if name not in known:
            known_names = f"it has {', '.join(known)}{did_you_mean(name, known)}"
            raise InputError(f"the budget's variant {name!r} is not in {self.path}; {known_names}")
        return name

    def length(self, asked: int | None) -> int | None:
        """The tokens of a row: those asked for, or the usual number, or `None` for images.

        Raises:
            InputError: the model cannot take that length.
        """
        longest = self.target(self.manifest.chosen).max_length
        if longest is None:
            if asked is not None:
                raise InputError(
                    f"the budget's length {asked}: {self.path} takes images, which have no length; remove it"
                )
            return None
        if asked is not None and asked > longest:
            raise InputError(f"the budget's length {asked}: {self.path} takes at most {longest} tokens")
        return min(LENGTH, longest) if asked is None else asked

    def target(self, variant: str) -> Target:
        """A variant, for timing."""
        return of_bundle(self.folder, self.manifest, self.encoder, variant, name=f"{variant} of {self.title}")


def open_side(path: Path) -> Side:
    """A bundle or a run folder.

    Raises:
        BundleError: it is neither, or is damaged.
    """
    folder = bundle.find(path)
    manifest = bundle.load(folder)
    if changed := checksum.compare(folder, manifest.files).lines():
        raise BundleError(
            f"{path} is not as it was written ({changed[0]}), so that no figure of it counts; copy or make it again"
        )
    encoder = inputs.load(manifest.input.kind, folder)
    return Side(path, folder, manifest, encoder, path / "quantize" if folder != path else None)


def check_comparable(new: Side, old: Side) -> None:
    """Nothing, for two bundles that answer the same question.

    Raises:
        InputError: their tasks or labels differ.
    """
    for what, ours, theirs in (
        ("task", new.manifest.task, old.manifest.task),
        ("labels", ", ".join(sorted(new.manifest.labels)), ", ".join(sorted(old.manifest.labels))),
    ):
        if ours != theirs:
            raise InputError(
                f"{new.path} and {old.path} cannot be compared: the {what} of the one: {ours[:80]}; of the other: "
                f"{theirs[:80]}"
            )
