"""The stage `export`: the fp32 graph, and the proof that it computes what torch computes on the same inputs."""

from __future__ import annotations

import shutil
from pathlib import Path

from tledge import artifacts
from tledge.artifacts import write_json
from tledge.bundle.write import ecosystem_files
from tledge.stages.job import Job


def stage(job: Job, folder: Path) -> str:
    """Write the fp32 graph and prove that it computes what torch computes."""
    from tledge import export

    made = job.runs.export(job, folder / "model.onnx")
    # Kept outside the stage's folder too, since a failure leaves no stage.
    parity = job.folder / "logs" / "parity.json"
    write_json(parity, [artifacts.to_dict(case) for case in made.parity])
    shutil.copy(parity, folder / "parity.json")
    export.require(made.parity, [made.reference], where=str(parity))
    (folder / "inputs").mkdir()
    for name in ecosystem_files():
        if (job.checkpoint / name).exists():
            (folder / "inputs" / name).parent.mkdir(exist_ok=True)
            shutil.copy(job.checkpoint / name, folder / "inputs" / name)
    graph = made.finish(folder)
    write_json(folder / "graph.json", graph)
    worst = max(case.max_abs_diff for case in made.parity)
    return f"{graph.size_bytes / 1e6:.1f} MB, parity in {len(made.parity)} cases, largest difference {worst:.1e}"
