"""Verify a bundle: its files, whether this onnxruntime opens it, and whether it still gives its answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from tledge import bundle, inputs, overflow, processor
from tledge.artifacts import Graph, Variant, read_object, read_values
from tledge.bundle import Manifest, checksum, golden, golden_language
from tledge.bundle.golden import Run, Vectors
from tledge.errors import BundleError, InputError
from tledge.inputs.sentence import MODULES
from tledge.runtime.decoder import tensor_specs
from tledge.runtime.predictor import checked, task_of
from tledge.runtime.session import open_session, session_run


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `detail` says what was found, and by name what is wrong."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """Every check of one bundle."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)


def verify(path: str | Path, *, provider: str = "cpu") -> Verification:
    """What holds of a bundle on this machine; a bundle that does not hold is told in the checks, not raised.

    ====================  =====================================================================================
    `manifest`            `bundle.json` is there, as its own hash says, and of a format that this version reads
    `files`               no file is missing, extra or changed
    `golden inputs`       preprocessing gives the stored tensors
    `processor`           where the variants were scored and timed, and whether this machine is of that kind
    `opens VARIANT`       this onnxruntime reads the graph: its operator set, IR version and operators
    `overflow VARIANT`    its products of uint8 and int8 are as safe as the manifest says, and safe on this processor
    `golden VARIANT`      the graph gives the stored outputs within the variant's tolerance
    ====================  =====================================================================================

    Args:
        path: The bundle's folder.
        provider: Where the golden vectors are run.

    Raises:
        InputError: the provider is not there.
    """
    folder = Path(path)
    try:
        manifest = bundle.load(folder)
    except BundleError as error:
        return Verification((Check("manifest", False, str(error)),))
    checks = [_manifest(folder, manifest), _files(folder, manifest)]
    try:
        task_of(manifest)  # by which answers are checked
        vectors = golden.read(folder, manifest.golden)
        encoder = inputs.load(manifest.input.kind, folder)
        problems = golden.check_inputs(vectors, encoder)
    except BundleError as error:
        vectors, problems = None, [str(error)]
    given = f"{len(manifest.golden.values)} sentences give the stored tokens"
    if manifest.golden.images:
        given = f"{manifest.golden.images} images give the stored pixels"
    checks.append(_check("golden inputs", problems, given))
    checks.append(_processor(manifest))
    for variant in manifest.variants:
        checks += _variant(folder, manifest, variant, vectors, provider)
    return Verification(tuple(checks))


def _manifest(folder: Path, manifest: Manifest) -> Check:
    try:
        task_of(manifest)
    except BundleError as error:
        return Check("manifest", False, str(error))
    if not bundle.is_sealed(folder):
        why = "it has no hash of its own, so that a change in it would not be found: an older release made it, or it is"
        return Check("manifest", False, f"{why} damaged; make the bundle again: tledge run RECIPE")
    return Check("manifest", True, f"format {manifest.format_version}, and its own hash holds")


def _files(folder: Path, manifest: Manifest) -> Check:
    problems = checksum.compare(folder, manifest.files).lines()
    for name in manifest.files:
        if name.endswith(".json") and (folder / name).is_file():
            try:
                (read_values if name == MODULES else read_object)(folder / name)
            except (OSError, ValueError) as error:
                problems.append(f"{name} cannot be read as JSON: {error}")
    return _check("files", problems, f"{len(manifest.files)} files are as they were written")


def _variant(folder: Path, manifest: Manifest, variant: Variant, vectors: Vectors | None, provider: str) -> list[Check]:
    graph = variant.graph
    try:
        session = open_session(folder / graph.path, provider=provider)
        _require_told(session, graph)
    except BundleError as error:
        return [Check(f"opens {variant.name}", False, str(error))]
    run = session_run(session)
    checks = [Check(f"opens {variant.name}", True, f"opset {graph.opset}, IR version {graph.ir_version}")]
    checks += _overflow(folder / graph.path, variant)
    if vectors is not None:
        if manifest.generation is not None:
            run = golden_language.graph_run(run, graph.inputs)
        else:
            run = inputs.load(manifest.input.kind, folder).golden(checked(run, task_of(manifest), manifest.labels))
        checks.append(_golden(manifest, variant, vectors, run))
    return checks


def _require_told(session: ort.InferenceSession, graph: Graph) -> None:
    """Refuse a graph whose tensors are not those that the manifest tells."""
    for what, found, told in (
        ("takes", session.get_inputs(), graph.inputs),
        ("gives", session.get_outputs(), graph.outputs),
    ):
        have, expected = ([(spec.name, spec.dtype) for spec in specs] for specs in (tensor_specs(found), told))
        if have != expected:
            raise BundleError(f"the graph {what} {_listed(have)}, but the manifest says {_listed(expected)}")


def _listed(tensors: list[tuple[str, str]]) -> str:
    text = ", ".join(f"{name!r} {dtype}" for name, dtype in tensors) or "nothing"
    return text if len(text) <= 200 else text[:197] + "..."


def _processor(manifest: Manifest) -> Check:
    seen = sorted({v.processor.kind for v in manifest.variants if v.processor is not None})
    here = processor.here().kind
    if not seen:
        return Check("processor", True, f"this is {here}; where the variants were scored and timed is not written down")
    where = f"scored and timed on {' and '.join(seen)}"
    if here in seen:
        return Check("processor", True, f"{where}, as this machine is")
    return Check("processor", True, f"{where}; this machine is {here}: times and the best variant may be others here")


def _overflow(path: Path, variant: Variant) -> list[Check]:
    """Whether integer products can overflow; nothing where there are none and none were expected."""
    try:
        found = overflow.check(path)
    except BundleError as error:
        return [Check(f"overflow {variant.name}", False, str(error))]
    written, told = variant.overflow, overflow.told(found)
    if not found.products and (written is None or not written.products):
        return []
    if written is not None and written != found:
        told = f"{told}, but the manifest says: {overflow.told(written)}"
        return [Check(f"overflow {variant.name}", False, told)]
    if not found.possible:
        return [Check(f"overflow {variant.name}", True, told)]
    scored_so = variant.processor is not None and processor.clips(variant.processor)
    if processor.clips(processor.here()) and not scored_so:
        told += "; this processor adds in 16 bits, and the figures are not from such a one"
        return [Check(f"overflow {variant.name}", False, f"{told}; {overflow.MEND}")]
    return [Check(f"overflow {variant.name}", True, f"{told}: answers differ on x86 without VNNI; {overflow.MEND}")]


def _golden(manifest: Manifest, variant: Variant, vectors: Vectors, run: Run) -> Check:
    name, facts = f"golden {variant.name}", manifest.golden
    try:
        got = golden.outputs_of(vectors, run)
    except (BundleError, InputError) as error:
        return Check(name, False, str(error))
    problems = golden.check_outputs(vectors, facts, variant.name, got)
    if variant.scheme == "fp32" and golden.has_reference(vectors):
        problems += golden.check_outputs(vectors, facts, variant.name, got, source=golden.REFERENCE)
    same = golden.same_decisions(vectors, variant.name, got)
    within = f"within {facts.tolerance.get(variant.name, 0):.1%} of the largest output"
    return _check(name, problems, f"{within}, {same}" if same else within)


def _check(name: str, problems: list[str], otherwise: str) -> Check:
    return Check(name, not problems, "; ".join(problems) if problems else otherwise)
