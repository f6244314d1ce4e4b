"""A history: a file of JSON lines, one record a line, that every run of a gate or a benchmark is added to."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tledge.artifacts import BenchResult, Comparison, Latency, LatencyRatio, Record, Verdict, from_dict
from tledge.errors import DataError
from tledge.gate import figures

try:
    import fcntl
except ImportError:  # Windows has no such lock
    fcntl = None  # type: ignore[assignment]

_LONGEST_LINE = 1 << 20
_REQUIRED = [
    each.name
    for each in dataclasses.fields(Record)
    if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
]


def records(of: Verdict | BenchResult) -> tuple[Record, ...]:
    """A record for each candidate at each setting; none for a verdict that nothing was measured for.

    A candidate that was only compared has the comparison's median, and one of which only the footprint or the size was
    taken has no setting. A ratio is that of the comparison where there is one, else the one of the benchmark.
    """
    judged = of if isinstance(of, Verdict) else Verdict("", (), bench=of)
    bench = figures.bench(judged)
    if bench is None:
        return ()
    rows = [*_timed(bench), *_generated(bench), *_compared(bench)]
    seen = {row.variant for row in rows}
    weighed = dict.fromkeys([*(each.candidate for each in bench.footprints), *figures.sizes(judged)])
    rows += [_record(variant, bench) for variant in weighed if variant not in seen]
    return tuple(_complete(row, judged, bench) for row in rows)


def append(path: Path, of: Verdict | BenchResult) -> None:
    """Add the records of a verdict or a benchmark to a history, which is made where there is none.

    All lines are one write at the file's end under a lock, so that jobs may share a file. A last line that was never
    finished is closed first, and numbers that are not finite are stored as none.

    Raises:
        DataError: the file cannot be written.
    """
    lines = "".join(json.dumps(_plain(record), allow_nan=False) + "\n" for record in records(of))
    if not lines:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            _lock(file)
            _require_history(file, path)
            data = (b"" if _ends_with_a_line(file) else b"\n") + lines.encode()
            written = file.write(data)
        if written != len(data):
            raise DataError(f"{path}: only {written} of {len(data)} bytes could be written; is the disk full?")
    except OSError as error:
        raise DataError(f"{path}: the history cannot be written ({error.strerror}); give another path") from None


def _require_history(file: BinaryIO, path: Path) -> None:
    """Refuse a file whose first line is none of a history, which would be spoilt."""
    file.seek(0)
    first = file.readline(_LONGEST_LINE).strip()
    if first and not first.startswith(b"{"):
        raise DataError(f"{path}: is no history, whose lines are JSON; give another path")


def read(path: Path) -> tuple[Record, ...]:
    """The records of a history in the order of its lines; keys that are not known and empty lines are passed over.

    Raises:
        DataError: the file cannot be read, or a line is no record; the message has the line's number.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{path}: the history cannot be read ({error.strerror}); `tledge gate --history FILE` makes one"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: is not UTF-8; delete the line") from None
    return tuple(_read_line(path, at, line) for at, line in enumerate(text.split("\n"), 1) if line.strip())


def _timed(bench: BenchResult) -> Iterator[Record]:
    for row in bench.latencies:
        yield dataclasses.replace(
            _record(row.candidate, bench, row),
            p50_ms=row.percentiles_ms.get("p50"),
            p50_low_ms=row.median_low_ms,
            p50_high_ms=row.median_high_ms,
            percentiles_ms=dict(row.percentiles_ms),
            samples=row.samples,
            **_ratio(row.against),
        )


def _generated(bench: BenchResult) -> Iterator[Record]:
    for row in bench.generations:
        yield Record(
            bench.created,
            bench.name,
            row.candidate,
            row.batch,
            row.prompt,
            row.threads,
            bench.provider,
            p50_ms=row.token_ms.get("p50"),
            percentiles_ms=dict(row.token_ms),
            samples=row.samples,
            **_ratio(row.against),
            new_tokens=row.new_tokens,
            first_token_ms=row.first_token_ms.get("p50"),
            tokens_per_second=row.tokens_per_second,
            tokens_per_second_low=row.low,
            tokens_per_second_high=row.high,
        )


def _ratio(against: LatencyRatio | None) -> dict[str, Any]:
    """A record's fields of a ratio of the benchmark's."""
    if against is None:
        return {}
    return {
        "against": against.reference, "ratio": against.ratio, "ratio_low": against.low, "ratio_high": against.high,
    }  # fmt: skip


def _compared(bench: BenchResult) -> Iterator[Record]:
    for each in figures.only_compared(bench):
        median = each.candidate_ms
        found = _record(each.candidate, bench, each)
        yield dataclasses.replace(
            found, provider=each.provider, p50_ms=median, percentiles_ms={"p50": median}, samples=each.ratio.samples
        )


def _record(candidate: str, bench: BenchResult, at: Latency | Comparison | None = None) -> Record:
    batch, sequence, threads = (at.batch, at.sequence, at.threads) if at else (None, None, None)
    return Record(bench.created, bench.name, candidate, batch, sequence, threads, bench.provider)


def _complete(row: Record, judged: Verdict, bench: BenchResult) -> Record:
    """The record with what is known of the bundle, the verdict, the machine, the footprint and a comparison."""
    footprint = next((each for each in bench.footprints if each.candidate == row.variant), None)
    machine = bench.machine
    found = dataclasses.replace(
        row,
        created=judged.created or bench.created,
        name=judged.name or bench.name,
        version=judged.version,
        verdict=judged.verdict,
        fingerprint=machine.fingerprint,
        cpu=machine.cpu,
        onnxruntime=machine.onnxruntime,
        decoding=bench.decoding,
        size_mb=figures.sizes(judged).get(row.variant),
    )
    if footprint is not None:
        found = dataclasses.replace(
            found, size_mb=footprint.size_mb, load_ms=footprint.load_ms, peak_memory_mb=footprint.peak_memory_mb
        )
    at = (row.variant, row.batch, row.sequence, row.threads)
    compared = next((each for each in bench.comparisons if figures.place(each) == at), None)
    if compared is None or row.new_tokens is not None:
        return found
    ratio = compared.ratio
    return dataclasses.replace(
        found, against=compared.reference, ratio=ratio.ratio, ratio_low=ratio.low, ratio_high=ratio.high
    )


def _plain(record: Record) -> dict[str, Any]:
    """The record as JSON types, with `None` for numbers that are not finite."""
    plain = {name: _finite(value) for name, value in dataclasses.asdict(record).items()}
    known = {name: _finite(value) for name, value in record.percentiles_ms.items()}
    return plain | {"percentiles_ms": {name: value for name, value in known.items() if value is not None}}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lock(file: BinaryIO) -> None:
    """Wait for the file's lock, which closing it frees; without one, as on some network disks, the one write stands."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)


def _ends_with_a_line(file: BinaryIO) -> bool:
    if not file.seek(0, os.SEEK_END):
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _read_line(path: Path, at: int, line: str) -> Record:
    mend = "mend or delete the line"
    try:
        data = json.loads(line, parse_constant=lambda _: None)
    except ValueError as error:
        raise DataError(f"{path}, line {at}: is not JSON ({error}); {mend}") from None
    if not isinstance(data, dict):
        raise DataError(f"{path}, line {at}: expected an object with a record, got {type(data).__name__}; {mend}")
    hints = typing.get_type_hints(Record)
    for name, value in data.items():
        if name in hints and not _fits(hints[name], value):
            raise DataError(f"{path}, line {at}: {name} cannot be {value!r}; {mend}")
    try:
        return from_dict(Record, data)
    except TypeError:
        missing = [name for name in _REQUIRED if name not in data]
        raise DataError(f"{path}, line {at}: lacks {', '.join(missing)}; {mend}") from None


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value of JSON has the type of a record's field; a whole number is a float too."""
    if typing.get_origin(hint) is Mapping:
        return isinstance(value, dict) and all(_fits(float, each) for each in value.values())
    allowed = typing.get_args(hint) or (hint,)
    if isinstance(value, bool):
        return bool in allowed
    return isinstance(value, (*allowed, int) if float in allowed else allowed)
