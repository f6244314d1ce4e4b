"""Bundles on an emulated Arm device beside this machine: do they verify there, and are the answers the same?

    benchmarks/arm64.sh DEVICE
    python benchmarks/arm64.py DEVICE BUNDLE... [--values FILE_OR_FOLDER] [--at-most 200] [--all-variants]

On a processor without a dot product of int8 (cortex-a72) and one with it (cortex-a76), of the chosen variant and of
fp32: whether `tledge verify` passes, how far the outputs are from the golden ones as a share of the largest, and, where
values are given, how many answers of `tledge predict` are other than here and by how much a score differs at most. Of
language models the texts are compared that they go on with. Prints one Markdown table; 1 if a bundle does not verify.

Values are texts, one a line, or .jsonl as for `tledge predict`, or a folder of images. Where there are more than
`--at-most`, they are taken evenly from the whole. No timing means anything there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge import bundle
from tledge.inputs import image

PROCESSORS = ("cortex-a72", "cortex-a76")
GOLDEN = Path(__file__).with_name("golden_distance.py")
HEAD = ["bundle", "variant", "processor", "verify", "golden outputs off by", "answers that differ", "scores differ by"]
FAILS = "**fails**"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device", type=Path, help="the folder that arm64.sh made")
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--values", type=Path, help="a file of texts or a folder of images, to compare the answers")
    parser.add_argument("--at-most", type=int, default=200, help="values that are compared")
    parser.add_argument("--max-new-tokens", type=int, default=16, help="tokens that language models add to a text")
    parser.add_argument("--all-variants", action="store_true", help="every variant, not only the chosen one and fp32")
    options = parser.parse_args()
    if not (options.device / "python").exists():
        parser.error(f"{options.device} has no python: make the device with benchmarks/arm64.sh {options.device}")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for path in options.bundles:
            manifest = bundle.load(bundle.find(path))
            answers = None
            if options.values:
                values = _some(options.values, manifest.input.kind, options.at_most)
                answers = Answers(manifest, path, values, Path(scratch), options.max_new_tokens)
            names = [v.name for v in manifest.variants if options.all_variants or v.name in ("fp32", manifest.chosen)]
            for processor in PROCESSORS:
                device = Device(options.device / "python", processor)
                for cells in _measure(device, path, names, answers):
                    rows.append([manifest.name, cells[0], processor, *cells[1:]])
                    print(*rows[-1], file=sys.stderr, flush=True)
    print(*(f"| {' | '.join(row)} |" for row in [HEAD, ["---"] * len(HEAD), *rows]), sep="\n")
    return 1 if any(FAILS in row for row in rows) else 0


def _measure(device: Device, path: Path, names: list[str], answers: Answers | None) -> Iterator[list[str]]:
    """Of each variant: name, whether it verifies, how far its golden outputs are off, and how its answers differ."""
    checks, distances = device.checks(path), device.golden_distances(path)
    of_all = all(passed for check, passed in checks.items() if check.split()[-1] not in distances)
    for name in names:
        passes = of_all and all(passed for check, passed in checks.items() if check.split()[-1] == name)
        compared = ("", "") if answers is None else answers.compare(device, name)
        yield [name, "passes" if passes else FAILS, f"{distances[name]:.3%}", *compared]


@dataclass(frozen=True, slots=True)
class Device:
    """A Python on an emulated processor."""

    python: Path
    processor: str

    def checks(self, path: Path) -> dict[str, bool]:
        """Whether each check of `tledge verify` passes, by its name; why one does not is told at once."""
        found = json.loads(self.run("-m", "tledge", "verify", str(path), "--json", may_fail=True))
        failed = [check for check in found["checks"] if not check["passed"]]
        print(
            *(f"{self.processor}: {each['name']}: {each['detail']}\n" for each in failed),
            sep="",
            end="",
            file=sys.stderr,
        )
        return {check["name"]: check["passed"] for check in found["checks"]}

    def golden_distances(self, path: Path) -> dict[str, float]:
        """How far each variant's outputs are from the golden ones, as a share of the largest."""
        found = json.loads(self.run(str(GOLDEN), str(path)))["variants"]
        return {name: distance["largest"] for name, distance in found.items()}

    def run(self, *arguments: str, may_fail: bool = False) -> str:
        """The standard output of a Python there."""
        return _output([str(self.python), *arguments], {"CPU": self.processor}, may_fail=may_fail)


class Answers:
    """A bundle's answers for the values, here, to compare those of a device with."""

    def __init__(
        self, manifest: bundle.Manifest, path: Path, values: list[str], scratch: Path, max_new_tokens: int
    ) -> None:
        file = scratch / "values.jsonl"
        file.write_text("".join(json.dumps({manifest.input.kind: each}) + "\n" for each in values), encoding="utf-8")
        self._words = ["-m", "tledge", "predict", str(path), "--file", str(file)]
        if manifest.generation is not None:
            self._words += ["--max-new-tokens", str(max_new_tokens)]
        self._here: dict[str, str] = {}

    def compare(self, device: Device, variant: str) -> tuple[str, str]:
        """How many answers differ, of how many, and by how much a score does at most."""
        words = [*self._words, "--variant", variant]
        if variant not in self._here:
            self._here[variant] = _output([sys.executable, *words])
        pairs = list(zip(_answers(self._here[variant]), _answers(device.run(*words)), strict=True))
        differ = sum(_decision(here) != _decision(there) for here, there in pairs)
        most = max(
            (abs(a - b) for here, there in pairs for a, b in zip(_numbers(here), _numbers(there), strict=True)),
            default=None,
        )
        return f"{differ} of {len(pairs)}", "" if most is None else f"{most:.2g}"


def _some(path: Path, kind: str, at_most: int) -> list[str]:
    """Texts, or absolute paths of images, taken evenly from all there are."""
    found = _images(path) if kind == "image" else list(_texts(path))
    step = max(1, len(found) / at_most)
    return [found[int(i * step)] for i in range(min(len(found), at_most))]


def _answers(lines: str) -> list[Any]:
    return [json.loads(line) for line in lines.split("\n") if line]


def _decision(answer: Any) -> Any:
    """An answer without its scores: the label or labels, or the text."""
    return {key: value for key, value in answer.items() if not isinstance(value, float | dict)}


def _numbers(answer: Any) -> list[float]:
    """The scores in an answer, or the value of a regression."""
    each = answer.get("scores", {"value": answer.get("value")}).values()
    return [number for number in each if isinstance(number, float)]


def _texts(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            yield json.loads(line)["text"] if path.suffix == ".jsonl" else line


def _images(folder: Path) -> list[str]:
    found = (each.resolve() for each in folder.rglob("*") if each.suffix.lower() in image.suffixes())
    return sorted(str(each) for each in found)


def _output(command: Sequence[str], environment: dict[str, str] | None = None, *, may_fail: bool = False) -> str:
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", check=False, env={**os.environ, **(environment or {})}
    )
    if done.returncode and not (may_fail and done.stdout):
        raise SystemExit(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
