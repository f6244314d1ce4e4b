"""What it gives to keep freed memory in the process (`tledge.processes.keep_freed_memory`): torch over images.

    python benchmarks/freed_memory.py [--network tf_efficientnet_lite0] [--batch 32] [--rounds 5]

Each round starts two fresh processes, one that keeps memory and one that hands it back, in turning order; each runs the
network over batches of noise in inference mode, after three batches to warm up. Prints milliseconds an image, and how
much of the processors' time went to the system. The claim that is held: at least a tenth faster; otherwise the script
exits with 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

CHILD = """
import json, resource, sys, time
from tledge import processes
if sys.argv[1] == "kept":
    assert processes.keep_freed_memory()
import timm, torch
model = timm.create_model(sys.argv[2]).eval()
batch = torch.randn(int(sys.argv[3]), 3, 224, 224)
with torch.inference_mode():
    for _ in range(3):
        model(batch)
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(10):
        model(batch)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
print(json.dumps({"ms": seconds / 10 / len(batch) * 1000, "system": system / (user + system)}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="tf_efficientnet_lite0")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"kept": [], "handed back": []}
    for round_ in range(options.rounds):
        for name in list(found)[:: 1 if round_ % 2 else -1]:
            arguments = [name, options.network, str(options.batch)]
            done = subprocess.run([sys.executable, "-c", CHILD, *arguments], check=True, capture_output=True)
            found[name].append(json.loads(done.stdout))
    medians = {}
    for name, runs in found.items():
        medians[name] = statistics.median(run["ms"] for run in runs)
        system = statistics.median(run["system"] for run in runs)
        print(f"{name:12} {medians[name]:6.1f} ms an image, {system:.0%} of the processors' time in the system")
    ratio = medians["kept"] / medians["handed back"]
    print(f"kept takes {ratio:.2f} of the time")
    return 0 if ratio <= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
