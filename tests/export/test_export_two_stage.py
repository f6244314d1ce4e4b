"""Detectors of two stages as graphs: proposals, which are looked into, what is in them, and torch's detections."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from tiny_two_stage import LABELS, PROPOSALS, SIZE, TinyTwoStage

from tledge import export
from tledge.errors import ExportError
from tledge.inputs._suppression import Suppression
from tledge.model import detectors
from tledge.model.detectors._two_stage import sureness
from tledge.quantize.schemes import int8_static
from tledge.runtime import open_session, session_run


def images(n, seed=1):
    return np.random.default_rng(seed).standard_normal((n, 3, *SIZE)).astype(np.float32)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    torch.set_num_threads(1)
    path, detector = tmp_path_factory.mktemp("detector") / "candidates.onnx", TinyTwoStage()
    sample = {"pixel_values": images(2)}
    graph = export.export_candidates(detectors.folded(detector), sample, path, opset=20, external_data=False)
    return detector, path, graph


def shipped(written, folder, settings):
    """The graph that suppresses so, beside the detector that does."""
    detector, path, _ = written
    graph = export.suppress_in_graph(path, folder / "model.onnx", settings)
    assert [(each.name, each.shape[1:]) for each in graph.outputs] == [
        ("boxes", (settings.max_detections, 4)),
        ("scores", (settings.max_detections,)),
        ("labels", (settings.max_detections,)),
    ]
    detector.suppression = settings
    return detector, folder / "model.onnx"


def test_the_graph_before_suppression_tells_what_stages_hand_on(written):
    _, _, graph = written
    count, places = PROPOSALS.max_detections, 3 * (6 * 8 + 3 * 4)
    assert {each.name: each.shape for each in graph.outputs} == {
        "boxes": ("batch_size", LABELS, count, 4),
        "scores": ("batch_size", LABELS, count),
        "proposals/boxes": ("batch_size", places, 4),
        "proposals/scores": ("batch_size", 1, places),
        "chosen_boxes": ("batch_size", count, 4),
        "chosen_scores": ("batch_size", count),
        "chosen_levels": ("batch_size", count),
    }


SETTINGS = {
    "many": Suppression(),
    "none": Suppression(score_threshold=0.99),
    "one": Suppression(max_detections=1),
    "some": Suppression(score_threshold=0.2, iou_threshold=0.3, max_detections=7),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("batch", [1, 3])
def test_detections_are_torchs(written, tmp_path, name, batch):
    detector, path = shipped(written, tmp_path, SETTINGS[name])
    run, feeds = session_run(open_session(path)), {"pixel_values": images(batch)}
    expected, found = export.torch_run(detector)(feeds), run(feeds)
    counts = (found["labels"] >= 0).sum(axis=1)
    assert (counts == (expected["labels"] >= 0).sum(axis=1)).all()
    assert {"many": counts > 20, "none": counts == 0, "one": counts == 1}.get(name, counts > 1).all()
    candidates = session_run(open_session(written[1]))
    cases = export.compare_detector(detector, candidates, run, [("noise", feeds, False)], atol=1e-4, rtol=1e-3)
    assert all(case.passed for case in cases), cases
    assert [case.name.partition(":")[0] for case in cases] == ["noise", "proposals of noise", "noise"]
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-3)
    alone = np.concatenate([run({"pixel_values": image[None]})["scores"] for image in feeds["pixel_values"]])
    np.testing.assert_allclose(alone, found["scores"], atol=1e-4)


def test_proposals_are_padded_where_few_are_apart(written):
    found = session_run(open_session(written[1]))({"pixel_values": images(3)})
    padding = found["chosen_levels"] < 0
    assert padding.any(axis=1).all() and not padding.all(axis=1).any()
    assert (found["chosen_boxes"][padding] == 0).all() and (found["chosen_scores"][padding] == 0).all()
    assert (np.moveaxis(found["scores"], 1, 2)[padding] == 0).all()


def test_an_image_without_proposals_has_no_detections():
    detector = TinyTwoStage(proposals=dataclasses.replace(PROPOSALS, score_threshold=0.9999))
    found = detector(torch.from_numpy(images(2)))
    assert (found["labels"] == -1).all() and (found["scores"] == 0).all()


@pytest.mark.parametrize("wrong", ["chosen_boxes", "proposals/scores", "boxes"])
def test_a_graph_that_is_off_at_one_step_fails(written, tmp_path, wrong):
    detector, path = shipped(written, tmp_path, Suppression())
    run, candidates = (session_run(open_session(each)) for each in (path, written[1]))

    def off(feeds):
        found = candidates(feeds)
        return found | {wrong: found[wrong] * np.float32(0.9)}

    cases = [("noise", {"pixel_values": images(2)}, False)]
    assert not all(each.passed for each in export.compare_detector(detector, off, run, cases, atol=1e-4, rtol=1e-3))


def test_of_each_level_the_best_are_looked_into():
    detector = TinyTwoStage(proposals=Suppression(0.0, 1.0, max_detections=100, per_image=10))
    found = detector.proposals(torch.from_numpy(images(1)))
    (chosen,) = detector.chosen(found)
    assert chosen["labels"].bincount().tolist() == [10, 10]
    for level in (0, 1):
        best = found["scores"][0, 0][found["levels"] == level].topk(10).values
        assert torch.equal(chosen["scores"][chosen["labels"] == level], best)


def test_sure_proposals_keep_their_order():
    logits = torch.tensor([-200.0, -100, -30, -20, -1, 0, 1, 20, 30, 100, 200])
    scores = sureness(logits)
    assert (scores.diff() > 0).all() and scores[0] > 0 and scores[-1] < 1
    assert sureness(torch.logit(torch.tensor(0.0))) == 0  # a threshold that lets all pass


def test_layers_become_int8_and_what_joins_them_stays_in_float(written, tmp_path):
    _, path = shipped(written, tmp_path, Suppression())
    target = tmp_path / "model_quantized.onnx"
    rows = [{"pixel_values": images(1, seed)} for seed in range(4)]
    int8_static.apply(path, target, calibration=lambda: iter(rows), keep_float="none")
    made, original = onnx.load(target), onnx.load(path)
    ends = [[node for node in each.graph.node if node.name.startswith("nms/")] for each in (made, original)]
    assert ends[0] == ends[1]
    assert list(made.graph.output) == list(original.graph.output)
    rounded = {node.output[0] for node in made.graph.node if node.op_type == "DequantizeLinear"}
    layers = [node for node in made.graph.node if node.op_type in ("Conv", "Gemm")]
    assert all(rounded.issuperset(node.input[:2]) for node in layers)
    assert len(layers) == len([node for node in original.graph.node if node.op_type in ("Conv", "Gemm")])
    choosing = [node for node in made.graph.node if node.op_type in ("NonMaxSuppression", "TopK", "RoiAlign")]
    assert len(choosing) > 4 and not any("Quantize" in node.op_type for node in choosing)
    before, after = (session_run(open_session(each)) for each in (path, target))
    ours, theirs = after(rows[0]), before(rows[0])
    assert {name: each.shape for name, each in ours.items()} == {name: each.shape for name, each in theirs.items()}
    np.testing.assert_allclose(ours["scores"][0, :3], theirs["scores"][0, :3], atol=0.15)


def test_devices_cannot_suppress_proposals(written):
    with pytest.raises(ExportError, match=r"export\.nms: got device, but this detector has two stages"):
        export.require_one_stage(written[0])
