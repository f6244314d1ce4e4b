"""Results that `tledge bench --json` and `tledge gate --json` wrote, read to stand side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tledge import artifacts
from tledge.artifacts import BenchResult, OnMachine, SideBySide, Verdict
from tledge.errors import DataError


def read(paths: Sequence[Path]) -> tuple[OnMachine, ...]:
    """The machines of the results, in the order of the files; a file of several machines gives all of them.

    Raises:
        DataError: a file cannot be read or is no such result, or benchmarks and verdicts are mixed.
    """
    found = [each for path in paths for each in _of(path)]
    verdicts = [each.verdict is not None for each in found if not each.error]
    if any(verdicts) and not all(verdicts):
        raise DataError(
            "there are results of bench and of gate, which have no row in common; give those of one of them"
        )
    return tuple(found)


def _of(path: Path) -> tuple[OnMachine, ...]:
    expected = "expected what tledge bench --json or tledge gate --json wrote"
    try:
        data = artifacts.read_json(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; {expected}") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); {expected}") from None
    keys = data.keys() if isinstance(data, dict) else set()
    try:
        if "machines" in keys:
            return artifacts.from_dict(SideBySide, data).machines
        if "findings" in keys:
            return (OnMachine(str(path), verdict=artifacts.from_dict(Verdict, data)),)
        if "machine" in keys:
            return (OnMachine(str(path), bench=artifacts.from_dict(BenchResult, data)),)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is no whole result ({error}); {expected}") from None
    raise DataError(f"{path} is no result; {expected}")
