"""One pass over a text in which words are hidden, and the likeliest words for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tledge import inputs
from tledge.stages.job import Job
from tledge.stages.runs import Exported
from tledge.stages.runs.one_pass import N_VALUES, bench, benched, exported, open_run, reference, references, timing

__all__ = ["bench", "benched", "export", "open_run", "reference", "references", "samples", "timing"]

SAMPLES = 5


def export(job: Job, path: Path) -> Exported:
    """The fp32 graph of the checkpoint, held to torch's answers alone and in batches, padded and not."""
    encoder: Any = inputs.load(job.task.INPUT, job.checkpoint)
    return exported(job, path, encoder, _texts(job, encoder, N_VALUES))


def samples(job: Job, graph: Path, inputs_folder: Path) -> Sequence[dict[str, str]]:
    """What a graph finds in the place of a word in some validation texts."""
    encoder: Any = inputs.load(job.task.INPUT, inputs_folder)
    texts, run = _texts(job, encoder, SAMPLES), open_run(graph)
    written = []
    for text in texts:
        outputs, _ = encoder.answers(run, [text])
        words = [str(each[0]) for each in outputs["words"][0]]
        written.append({"prompt": text, "text": ", ".join(words)})
    return written


def _texts(job: Job, encoder: Any, count: int) -> list[str]:
    """The beginnings of some validation blocks as texts, with a word hidden in the middle of each."""
    from tledge import data

    blocks = data.open_blocks(job.stage("data")).validation
    found = []
    for i in range(min(count, len(blocks))):
        ids = np.asarray(blocks[i * len(blocks) // count])
        ids = ids[~encoder.masking.special[ids]][: max(2, encoder.max_length // 4)]
        words = encoder.decode(ids.tolist()).replace("\ufffd", "").split()
        found.append(" ".join([*words[: len(words) // 2], encoder.mask, *words[len(words) // 2 + 1 :]]))
    return found
