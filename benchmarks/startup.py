"""How long the command line takes to start: whole processes, interleaved.

    python benchmarks/startup.py [--bundle runs/quickstart/bundle] [--runs 20]

Prints the median and the range of each command and its ratio to importing torch. The one claim that is held:
`tledge --help` takes less than a tenth of the time that importing torch takes; otherwise the script exits with 1.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
from pathlib import Path

from tledge.bench import machine, stats
from tledge.bench.latency import order


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("runs/quickstart/bundle"))
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    tledge = [sys.executable, "-m", "tledge"]
    commands = {
        "import torch": [sys.executable, "-c", "import torch"],
        "python -c pass": [sys.executable, "-c", "pass"],
        "tledge --help": [*tledge, "--help"],
    }
    if options.bundle.exists():
        commands["tledge predict"] = [*tledge, "predict", str(options.bundle), "turn the lights off in the kitchen"]
    else:
        print(f"no bundle at {options.bundle}: tledge predict is left out (make one with: make demo)")
    samples = time_commands(commands, options.runs)
    here = machine.describe()
    print(f"{here.cpu}, {here.cores} cores, {here.system}; {options.runs} runs each, interleaved")
    for name, seconds in samples.items():
        ratio = stats.paired_ratio(seconds, samples["import torch"])
        print(
            f"{name:16} median {statistics.median(seconds) * 1e3:7.1f} ms, {min(seconds) * 1e3:.1f} to "
            f"{max(seconds) * 1e3:.1f}; {ratio.ratio:.3f} of importing torch ({ratio.low:.3f} to {ratio.high:.3f})"
        )
    share = stats.paired_ratio(samples["tledge --help"], samples["import torch"])
    return 0 if share.ratio < 0.1 else 1


def time_commands(commands: dict[str, list[str]], runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each command, one of each a round, after one round that is not counted."""
    import time

    run = functools.partial(subprocess.run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    samples: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        run(command)
    for number in range(runs):
        for name in order(list(commands), number):
            start = time.perf_counter()
            run(commands[name])
            samples[name].append(time.perf_counter() - start)
    return samples


if __name__ == "__main__":
    sys.exit(main())
