"""Detectors as graphs: candidates, suppression by standard operators, and parity as sets."""

import numpy as np
import onnx
import pytest
import tiny_set_detectors
from tiny_detector import N_LABELS, SIZE, TinyDetector

from tledge import export
from tledge.inputs._suppression import Suppression, suppress
from tledge.model import detectors
from tledge.recipe.schema import Model
from tledge.runtime import open_session, session_run

PLACES = (SIZE[0] // 8) * (SIZE[1] // 8) * 2


def images(n, seed=1):
    return np.random.default_rng(seed).standard_normal((n, 3, *SIZE)).astype(np.float32)


@pytest.fixture(scope="module")
def candidates(tmp_path_factory):
    path = tmp_path_factory.mktemp("detector") / "candidates.onnx"
    detector = TinyDetector()
    graph = export.export_candidates(detector, {"pixel_values": images(2)}, path, opset=20, external_data=False)
    return detector, path, graph


def test_candidates_are_torchs_at_any_batch(candidates):
    detector, path, graph = candidates
    told = [(each.name, each.shape) for each in graph.outputs]
    assert told == [("boxes", ("batch_size", PLACES, 4)), ("scores", ("batch_size", N_LABELS, PLACES))]
    run, torch_run = session_run(open_session(path)), export.torch_run(export.Candidates(detector))
    for batch in (1, 3):
        feeds = {"pixel_values": images(batch)}
        expected, got = torch_run(feeds), run(feeds)
        for name in expected:
            np.testing.assert_allclose(got[name], expected[name], atol=1e-4)
        assert np.ptp(got["scores"]) > 0.1


def test_nodes_are_named_by_their_regions(candidates):
    names = [node.name for node in onnx.load(candidates[1]).graph.node]
    assert {name.partition("/")[0].partition(".")[0] for name in names} == {"backbone", "head", "decode"}
    assert len(set(names)) == len(names)


SETTINGS = [
    Suppression(),
    Suppression(score_threshold=0.4, iou_threshold=0.3, max_detections=9, per_image=70),
    Suppression(score_threshold=0.999),  # nothing is left
    Suppression(score_threshold=0.0, iou_threshold=1.0, max_detections=1000, per_image=5000),  # more than there are
    Suppression(score_threshold=0.5, iou_threshold=None, max_detections=20),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_suppression_in_a_graph_is_that_of_numpy(candidates, tmp_path, settings):
    _, source, _ = candidates
    graph = export.suppress_in_graph(source, tmp_path / "model.onnx", settings)
    most = settings.max_detections
    assert [(each.name, each.shape[1:], each.dtype) for each in graph.outputs] == [
        ("boxes", (most, 4), "float32"),
        ("scores", (most,), "float32"),
        ("labels", (most,), "int64"),
    ]
    added = [node for node in onnx.load(tmp_path / "model.onnx").graph.node if node.name.startswith("nms/")]
    assert all(node.domain == "" for node in added)
    before, after = (session_run(open_session(path)) for path in (source, tmp_path / "model.onnx"))
    feeds = {"pixel_values": images(5)}
    raw, found = before(feeds), after(feeds)
    expected = suppress(raw["boxes"], raw["scores"], settings)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
        alone = np.concatenate([after({"pixel_values": image[None]})[name] for image in feeds["pixel_values"]])
        np.testing.assert_allclose(alone, found[name], atol=1e-4)


def detections(*rows):
    """Outputs of one image, padded to six."""
    found = {"boxes": np.zeros((1, 6, 4), np.float32), "scores": np.zeros((1, 6), np.float32)}
    found["labels"] = np.full((1, 6), -1)
    for i, (label, score, box) in enumerate(rows):
        found["boxes"][0, i], found["scores"][0, i], found["labels"][0, i] = box, score, label
    return found


ONE, NEXT, FAR, MORE = (0, 0, 100, 100), (8, 0, 108, 100), (300, 300, 400, 400), (25, 0, 125, 100)
BEHIND = (28, 0, 128, 100)  # suppressed by NEXT, not by ONE
SET = Suppression(score_threshold=0.05, iou_threshold=0.6, max_detections=6)


@pytest.mark.parametrize(
    ("theirs", "ours", "passed", "told"),
    [
        ([(0, 0.9, ONE), (1, 0.8, FAR)], [(0, 0.9, ONE), (1, 0.8, FAR)], True, "2 detections"),
        ([(0, 0.8, ONE), (1, 0.8, FAR)], [(1, 0.8004, FAR), (0, 0.7997, ONE)], True, "2 detections"),
        ([(0, 0.9, ONE)], [(0, 0.9, (0, 0, 100, 104))], False, "1 detections, 1 near-ties, 1 differ"),
        ([(0, 0.9, ONE)], [(1, 0.9, ONE)], False, "1 detections, 2 differ"),
        ([(0, 0.9, ONE)], [(0, 0.897, ONE)], False, "1 detections, 2 differ"),
        ([(0, 0.9, ONE)], [(0, 0.9, ONE), (0, 0.0505, FAR)], True, "1 detections, 1 near-ties"),
        ([(0, 0.9, ONE)], [(0, 0.9, ONE), (0, 0.3, FAR)], False, "1 detections, 1 differ"),
        ([(0, 0.9, ONE)], [(0, 0.9004, NEXT)], True, "1 detections, 2 near-ties"),
        ([(0, 0.9, ONE)], [(0, 0.88, NEXT)], False, "1 detections, 2 differ"),
        ([(0, 0.9, ONE)], [(0, 0.9, ONE), (0, 0.4, MORE)], True, "1 detections, 1 near-ties"),
        ([(0, 0.9, ONE), (0, 0.5, BEHIND)], [(0, 0.9004, NEXT)], True, "2 detections, 3 near-ties"),
        ([(0, 0.9, ONE), (0, 0.5, BEHIND)], [(0, 0.9, ONE)], False, "2 detections, 1 differ"),
        ([(0, 0.9, (0, 0, 100, 0.05))], [(0, 0.9, (0, 0, 100, 0.06))], True, "1 detections"),  # a sliver
        ([(0, 0.9, (5, 5, 5, 9))], [(0, 0.9, (5, 5, 5, 9))], True, "1 detections"),  # of no area
        ([], [], True, "0 detections"),
        ([(0, 0.9, ONE)], [], False, "1 detections, 1 differ"),
    ],
)
def test_parity_of_sets(theirs, ours, passed, told):
    runs = [lambda _, rows=rows: detections(*rows) for rows in (theirs, ours)]
    raw = {"boxes": np.asarray([[ONE, NEXT, FAR, MORE, BEHIND]], np.float32), "scores": np.zeros((1, 2, 5), np.float32)}
    raw["scores"][0, 0] = 0.9, 0.9, 0.05, 0.4, 0.5
    (case,) = export.check_detections(*runs, lambda _: raw, [("an image", {})], SET)
    assert (case.passed, case.name) == (passed, f"an image: {told}")
    assert case.same_decision == ("," not in told)


def test_a_graph_that_is_off_fails_parity_of_sets(candidates, tmp_path):
    detector, source, _ = candidates
    export.suppress_in_graph(source, tmp_path / "model.onnx", detector.suppression)
    run = session_run(open_session(tmp_path / "model.onnx"))
    cases = [("noise", {"pixel_values": images(3)})]
    torch_run, raw = export.torch_run(detector), export.torch_run(export.Candidates(detector))
    (case,) = export.check_detections(torch_run, run, raw, cases, detector.suppression)
    assert case.passed, case

    def shifted(feeds):
        found = run(feeds)
        return found | {"boxes": found["boxes"] + 3}

    (case,) = export.check_detections(torch_run, shifted, raw, cases, detector.suppression)
    assert not case.passed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ssdlite320_mobilenet_v3_large", (128, 160)),
        ("fcos_resnet50_fpn", (64, 96)),
        ("retinanet_resnet50_fpn", (64, 96)),
        ("ssd300_vgg16", (300, 300)),
    ],
)
def test_detectors_of_torchvision_by_name(name, size, tmp_path):
    settings = Model(backbone=f"torchvision:{name}", weights="none", input_size=list(size))
    detector, _ = detectors.of_recipe(settings, labels=("a", "b", "c"), task="object_detection")
    tiny_set_detectors.answering(detector, size)
    feeds = [np.random.default_rng(n).standard_normal((n, 3, *size)).astype(np.float32) for n in (1, 2, 3)]
    raw, told = tmp_path / "raw.onnx", tmp_path / "model.onnx"
    export.export_candidates(detector, {"pixel_values": feeds[1]}, raw, opset=20, external_data=False)
    export.suppress_in_graph(raw, told, detector.suppression)
    before, after = (session_run(open_session(path)) for path in (raw, told))
    cases = [(f"batch {len(each)}", {"pixel_values": each}, False) for each in feeds]
    found = export.compare_detector(detector, before, after, cases, atol=1e-3, rtol=1e-3)
    assert all(case.passed for case in found), found
