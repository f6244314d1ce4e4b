"""The stage `export` of a language model: its fp32 graph with a cache, and the proof that it does what torch does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tledge import artifacts
from tledge.artifacts import write_json
from tledge.bundle.write import ECOSYSTEM_FILES
from tledge.stages.job import Job

LONGEST_PROMPT = 96
"""Tokens of the longest prompt that parity is checked on, token by token; random ones fill the whole context."""


def stage(job: Job, folder: Path) -> str:
    """Write the fp32 graph and prove that it reads prompts and goes on with them as torch does."""
    from tledge import data, export, model
    from tledge.runtime import open_session, session_run

    settings = job.recipe.export
    checkpoint = job.checkpoint
    language = model.load_language(str(checkpoint))
    path = folder / "model.onnx"
    with job.progress("Exporting to ONNX", total=1) as advance:
        graph = export.export_decoder(language.module, path, opset=settings.opset, external_data=settings.external_data)
        advance(1)
    prompts = prompts_of(data.open_blocks(job.stage("data")).validation)
    found = export.check_decoder(
        language.module,
        session_run(open_session(path)),
        prompts,
        context=model.context_length(language.config),
        atol=settings.atol,
        rtol=settings.rtol,
        progress=job.progress,
    )
    # Kept outside the stage's folder too, since a failure leaves no stage.
    parity = job.folder / "logs" / "parity.json"
    write_json(parity, [artifacts.to_dict(case) for case in found])
    shutil.copy(parity, folder / "parity.json")
    export.require(found, [export.last_logits(language.module, prompts)], where=str(parity))
    (folder / "inputs").mkdir()
    for name in ECOSYSTEM_FILES:
        if (checkpoint / name).exists():
            shutil.copy(checkpoint / name, folder / "inputs" / name)
    write_json(folder / "graph.json", graph)
    worst = max(case.max_abs_diff for case in found)
    return f"{graph.size_bytes / 1e6:.1f} MB, parity in {len(found)} cases, largest difference {worst:.1e}"


def prompts_of(blocks: Any) -> list[list[int]]:
    """The beginnings of the first blocks, `(blocks, block)`: four prompts, of a half of a block and less."""
    half = blocks.shape[1] // 2
    lengths = [max(3, half), max(2, half * 2 // 3), max(2, half // 3), 2]
    return [[int(token) for token in blocks[i % len(blocks)][: min(n, LONGEST_PROMPT)]] for i, n in enumerate(lengths)]
