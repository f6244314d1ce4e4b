"""A detector to the graph of its candidates, and both to torch: each number of stages has its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tledge.artifacts import Graph, ParityCase
from tledge.errors import ExportError
from tledge.evaluate import Run
from tledge.export.detection_parity import check_detections, in_order_of
from tledge.export.detector import Candidates, one_stage
from tledge.export.parity import check
from tledge.export.reference import torch_run
from tledge.export.two_stage import CHOSEN, PROPOSED, two_stage
from tledge.inputs._suppression import Suppression
from tledge.progress import Progress, silent

LEAST = 0.5
"""The share of the threshold of suppression below which a candidate's score does not matter."""
Array = npt.NDArray[Any]
Case = tuple[str, dict[str, Array], bool]
_WRITE = {1: one_stage, 2: two_stage}


def export_candidates(model: Any, sample: Mapping[str, Array], path: Path, *, opset: int, external_data: bool) -> Graph:
    """Write the graph of a detector before suppression; see `detector.one_stage` and `two_stage.two_stage`."""
    return _WRITE[model.stages](model, sample, path, opset=opset, external_data=external_data)


def require_one_stage(model: Any) -> None:
    """Nothing, where a device can do all suppression.

    Raises:
        ExportError: the detector has two stages.
    """
    if model.stages != 1:
        raise ExportError(
            "export.nms: got device, but this detector has two stages, and the graph itself suppresses proposals "
            "between them; expected graph, or a detector of one stage, such as fcos"
        )


def compare_detector(
    model: Any,
    candidates: Run,
    graph_run: Run,
    cases: Sequence[Case],
    *,
    atol: float,
    rtol: float,
    progress: Progress = silent,
) -> tuple[ParityCase, ...]:
    """Hold a detector's graph to torch before and after suppression; nothing is raised, `require` judges.

    What a stage computes is compared as tensors, boxes in shares of the input's sides, for which tolerances hold as for
    scores, and scores from half of suppression's threshold on; what suppression chooses is compared as sets. The second
    stage of two is compared in the boxes that the graph chose, whose own choice is compared before, so that a near-tie
    among proposals fails nothing that follows.

    Args:
        model: the detector.
        candidates: the graph before suppression.
        graph_run: the graph that ships, as a run that gives detections in pixels of the input.
        cases: names, tensors, and whether some row is padded.
        atol: allowed absolute difference.
        rtol: allowed difference relative to torch's value.
        progress: shown by cases.
    """
    compare = {1: _one_stage, 2: _two_stage}[model.stages]
    sides = np.asarray([*model.size[::-1]] * 2, np.float32)

    def tensors(torch_side: Run, graph_side: Run) -> tuple[ParityCase, ...]:
        ours, theirs = (_comparable(run, sides, model.suppression) for run in (graph_side, torch_side))
        if model.suppression.iou_threshold is None:
            ours = in_order_of(theirs, ours)
        return check(theirs, ours, cases, _no_predictions, atol=atol, rtol=rtol, progress=progress)

    return compare(model, candidates, graph_run, cases, tensors, progress)


def _one_stage(
    model: Any, candidates: Run, graph_run: Run, cases: Sequence[Case], tensors: Any, progress: Progress
) -> tuple[ParityCase, ...]:
    raw = torch_run(Candidates(model))
    feeds = [(name, each) for name, each, _ in cases]
    return tensors(raw, candidates) + check_detections(
        torch_run(model), graph_run, raw, feeds, model.suppression, progress=progress
    )


def _two_stage(
    model: Any, candidates: Run, graph_run: Run, cases: Sequence[Case], tensors: Any, progress: Progress
) -> tuple[ParityCase, ...]:
    """Proposals as tensors, what is chosen of them as sets, what is in that as tensors, and detections as sets."""
    torch_side = _TwoStages(model, candidates)
    images = [(name, feeds) for name, feeds, _ in cases]
    proposed = [(f"proposals of {name}", feeds) for name, feeds in images]
    return (
        *tensors(torch_side.tensors, candidates),
        *check_detections(
            torch_side.chosen, torch_side.graph_chose, torch_side.by_level, proposed, model.proposal_suppression,
            progress=progress,
        ),
        *check_detections(
            torch_side.detections, graph_run, torch_side.inside, images, model.suppression, progress=progress
        ),
    )  # fmt: skip


class _TwoStages:
    """A detector of two stages in torch beside its graph, step by step."""

    def __init__(self, model: Any, candidates: Run) -> None:
        self.model = model.cpu().eval()
        self.graph, self._proposals = _remembered(candidates), _remembered(self._propose)

    def tensors(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What both stages compute, the second one in the boxes that the graph chose, and 0 in padding."""
        found, given = self._proposals(feeds), self.graph(feeds)
        inside = self._inside(found, given)
        there = given[CHOSEN[1]][:, None] > 0
        return {
            PROPOSED[0]: found["boxes"].numpy(),
            PROPOSED[1]: found["scores"].numpy(),
            "boxes": inside["boxes"],
            "scores": np.where(there, inside["scores"], np.float32(0)),
        }

    def chosen(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What torch looks into, with levels as labels."""
        return _padded(self.model.chosen(self._proposals(feeds)))

    def graph_chose(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What the graph looks into."""
        given = self.graph(feeds)
        return {name: given[each] for name, each in zip(("boxes", "scores", "labels"), CHOSEN, strict=True)}

    def by_level(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All proposals in torch, with levels as labels."""
        found = self._proposals(feeds)
        levels = found["levels"].numpy()
        mine = levels == np.arange(levels.max() + 1)[:, None]
        return {"boxes": found["boxes"].numpy(), "scores": np.where(mine, found["scores"].numpy(), np.float32(-1))}

    def detections(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What torch finds in the boxes that the graph chose."""
        given = self.graph(feeds)
        rois = [
            torch.from_numpy(boxes[scores > 0])
            for boxes, scores in zip(given[CHOSEN[0]], given[CHOSEN[1]], strict=True)
        ]
        with torch.inference_mode():
            found = self.model.looked(self._proposals(feeds)["maps"], rois)
        return {name: each.numpy() for name, each in found.items()}

    def inside(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The candidates of that."""
        return self._inside(self._proposals(feeds), self.graph(feeds))

    def _propose(self, feeds: Mapping[str, Array]) -> Any:
        with torch.inference_mode():
            return self.model.proposals(**{name: torch.from_numpy(each) for name, each in feeds.items()})

    def _inside(self, found: Any, given: Mapping[str, Array]) -> dict[str, Array]:
        """`boxes (batch, labels, n, 4)` and `scores (batch, labels, n)` in the boxes that the graph chose."""
        batch, count = given[CHOSEN[1]].shape
        numbers = np.repeat(np.arange(batch, dtype=np.float32), count)[:, None]
        rois = torch.from_numpy(np.concatenate([numbers, given[CHOSEN[0]].reshape(-1, 4)], 1))
        with torch.inference_mode():
            inside = self.model.regions(found["maps"], rois)
        boxes, scores = (inside[name].unflatten(0, (batch, count)).transpose(1, 2) for name in ("boxes", "scores"))
        return {"boxes": boxes.numpy(), "scores": scores.numpy()}


def _remembered(run: Callable[[Mapping[str, Array]], Any]) -> Callable[[Mapping[str, Array]], Any]:
    """A run that does not compute the same once more where it is asked of the same tensors again."""
    last: list[Any] = [None, None]

    def remembered(feeds: Mapping[str, Array]) -> Any:
        if last[0] is not feeds:
            last[:] = [feeds, run(feeds)]
        return last[1]

    return remembered


def _padded(rows: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, Array]:
    """Detections of each image as arrays, with 0, 0 and -1 behind the last."""
    parts = {name: [row[name] for row in rows] for name in ("boxes", "scores", "labels")}
    return {
        name: torch.nn.utils.rnn.pad_sequence(each, batch_first=True, padding_value=-(name == "labels")).numpy()
        for name, each in parts.items()
    }


def _comparable(run: Run, sides: Array, suppression: Suppression) -> Run:
    """A run whose boxes are in shares of the input's sides, and whose scores are not below what may be told.

    Far below the threshold of suppression scores are the root of what rounding decides, and nobody sees them: below
    half of it all count as that.
    """
    least = np.float32(suppression.score_threshold * LEAST)

    def comparable(feeds: Mapping[str, Array]) -> dict[str, Array]:
        found = run(feeds)
        boxes = {name: each / sides for name, each in found.items() if name.endswith("boxes")}
        return {**found, **boxes, "scores": np.maximum(found["scores"], least)}

    return comparable


def _no_predictions(outputs: Mapping[str, Array]) -> None:
    """None: candidates decide nothing."""
