"""Made-up verdicts with every kind of finding, for the formats and the history."""

from tledge.artifacts import (
    ACCEPT,
    ANOMALOUS,
    INCONCLUSIVE,
    REGRESSION,
    BenchResult,
    Comparison,
    EndToEnd,
    Finding,
    Footprint,
    Latency,
    LatencyRatio,
    Machine,
    Throughput,
    Verdict,
)

MACHINE = Machine(
    "Imaginary CPU @ 2.00GHz", "x86_64", ("avx2",), 2, 1.5, 8192.0, "Linux 6.0", "3.11.9", "1.31.1",
    ("CPUExecutionProvider",), 0.25, fingerprint="0123456789ab",
)  # fmt: skip
CREATED = "2026-01-02T04:04:05+01:00"


def latency(candidate="int8", p50=2.5, batch=1, **changes):
    given = {"mean_ms": p50, "percentiles_ms": {"p50": p50, "p95": p50 * 1.2}, "missing": {"p99": 662}}
    given |= {"median_low_ms": p50 - 0.1, "median_high_ms": p50 + 0.05, "against": None}
    return Latency(candidate, batch, 32, 1, 150, **(given | changes))


def bench(**changes):
    ratio = LatencyRatio("fp32", 0.5, 0.48, 0.53, 150)
    given = {
        "machine": MACHINE,
        "latencies": (latency("fp32", 5.0), latency("int8", 2.5, against=ratio)),
        "footprints": (
            Footprint("fp32", 91.4, 152.0, 14.2, 241.3, 61.0),
            Footprint("int8", 23.3, 81.0, 5.1, 118.7, 61.0),
        ),
        "created": CREATED,
        "name": "made-up.bundle",
        "end_to_end": (EndToEnd("int8", 1, 150, 0.1, 2.5, 0.01, {"p50": 2.7}),),
        "throughput": (Throughput("int8", 8, 32, 1, 40, 900.0, 880.0, 915.0),),
    }
    return BenchResult(**(given | changes))


def comparison(candidate="int8", batch=1):
    ratio, noise = LatencyRatio("old int8", 1.12, 1.1, 1.14, 60), LatencyRatio("old int8", 1.0, 0.99, 1.01, 60)
    return Comparison(candidate, "old int8", batch, 32, 1, "cpu", ratio, noise, 0.05, "slower", "12 % slower", 2.8, 2.5)


FINDINGS = (
    Finding("size_mb", ACCEPT, "within the limit", 30.0, 23.3, unit="MB", variant="int8"),
    Finding(
        "p95_ms", REGRESSION, "3.0 ms is above 2.8 ms, and so is\nthe whole interval", 2.8, 3.0, 2.9, 3.1, "ms",
        "int8", "cpu", 1, 32, 1,
    ),
    Finding("samples", ANOMALOUS, "100 % of the counts differ: 150, not 130"),
    Finding(
        "load_ms", INCONCLUSIVE, "made on | another <machine> & \x1b[1m\ud800", 100.0, 81.0, unit="ms", variant="int8"
    ),
)  # fmt: skip


def verdict(word=REGRESSION, findings=FINDINGS, **changes):
    given = {"name": "made-up.bundle", "version": "aaaaaaaaaaaa", "against": "made-up.bundle bbbbbbbbbbbb"}
    return Verdict(word, findings, **(given | {"created": CREATED, "bench": bench()} | changes))


def accepted():
    return verdict(ACCEPT, tuple(each for each in FINDINGS if each.verdict == ACCEPT))
