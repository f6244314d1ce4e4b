import families
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from tledge import export, tasks
from tledge.errors import ParityError
from tledge.runtime import open_session, session_run

TASK = tasks.load("text_classification")
FEEDS = {"input_ids": np.ones((2, 3), np.int64), "attention_mask": np.ones((2, 3), np.int64)}


def outputs(*rows, dtype=np.float32):
    return lambda feeds: {"logits": np.array(rows, dtype)}


def compare(expected, got, *, atol=1e-4, rtol=0.0):
    return export.check(expected, got, [("one", FEEDS, False)], TASK.predictions, atol=atol, rtol=rtol)


def found_on(made, path, torch_run=None):
    inputs = list(export.cases(made.encoder, families.TEXTS))
    run = torch_run or export.torch_run(made.model)
    found = export.check(run, session_run(open_session(path)), inputs, TASK.predictions, atol=1e-4, rtol=1e-3)
    reference = [np.concatenate([run(made.encoder.encode([text]))["logits"] for text in families.TEXTS])]
    return found, reference


@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_family_agrees_in_every_case(family, exported):
    made = exported(family)
    found, reference = found_on(made, made.path)
    export.require(found, reference, where="parity.json")
    assert all(case.passed and case.same_decision for case in found)
    assert max(case.max_abs_diff for case in found) < 1e-5


def test_cases_are_alone_and_batched_padded_and_not_short_and_long(exported):
    encoder = exported("bert").encoder
    made = list(export.cases(encoder, families.TEXTS))
    shapes = {(*tensors["input_ids"].shape, padded) for _, tensors, padded in made}
    for batch in (1, 3):
        for length in (2, 3, 13, 17, encoder.max_length):
            assert (batch, length, False) in shapes
    assert any(padded and batch > 3 for batch, _, padded in shapes)
    assert len({name for name, _, _ in made}) == len(made)
    for _, tensors, padded in made:
        assert padded == (not tensors["attention_mask"].all())
        assert (tensors["attention_mask"].sum(axis=1) >= 1).all()
        assert tensors["input_ids"].shape[1] <= encoder.max_length
    _, last, _ = made[-1]
    assert last["attention_mask"].sum(axis=1).tolist() == [3, 24]


def test_a_short_model_still_has_a_padded_case(pretrained, tmp_path):
    model, backbone = families.classifier(pretrained("bert"), max_length=3)
    encoder = families.encoder(model, backbone, tmp_path)
    made = list(export.cases(encoder, ["tea"]))
    assert max(tensors["input_ids"].shape[1] for _, tensors, _ in made) == 3
    assert [padded for _, _, padded in made].count(True) == 1


def test_a_changed_weight_is_found_and_its_place_and_size_are_named(exported, tmp_path):
    made = exported("bert")
    graph = onnx.load(made.path)
    head = next(t for t in graph.graph.initializer if t.name == "classifier.weight")
    weight = numpy_helper.to_array(head).copy()
    weight[1, 0] += 0.1
    head.CopyFrom(numpy_helper.from_array(weight, head.name))
    onnx.save(graph, tmp_path / "tampered.onnx")
    found, reference = found_on(made, tmp_path / "tampered.onnx")
    failed = [case for case in found if not case.passed]
    assert len(failed) > len(found) / 2
    with pytest.raises(ParityError) as caught:
        export.require(found, reference, where="logs/parity.json")
    message = str(caught.value)
    worst = max(failed, key=lambda case: case.max_abs_diff / case.allowed)
    assert 0.01 < worst.max_abs_diff < 0.2
    assert message.startswith(
        f"parity: the graph differs from torch by {worst.max_abs_diff:.3g} at {worst.name!r} "
        f"(allowed {worst.allowed:.3g}); "
    )
    assert f"{len(failed)} of {len(found)} cases failed; see logs/parity.json" in message
    assert "\n" not in message


def test_a_graph_that_ignores_its_mask_fails_on_padded_cases_alone(exported):
    made = exported("bert")
    run = export.torch_run(made.model)

    def unmasked(feeds):
        return run({**feeds, "attention_mask": np.ones_like(feeds["attention_mask"])})

    inputs = list(export.cases(made.encoder, families.TEXTS))
    found = export.check(run, unmasked, inputs, TASK.predictions, atol=1e-4, rtol=1e-3)
    assert [case.passed for case in found] == [not case.padded for case in found]
    with pytest.raises(ParityError, match="2 of "):
        export.require(found, [np.eye(2)], where="parity.json")


def test_a_model_that_says_the_same_to_everything_proves_nothing(exported):
    made = exported("bert")
    head = made.model.classifier
    before = head.weight.detach().clone()
    with torch.no_grad():
        head.weight.zero_()
    try:
        run = export.torch_run(made.model)
        found = export.check(run, run, list(export.cases(made.encoder, families.TEXTS)), TASK.predictions,
                             atol=1e-4, rtol=1e-3)  # fmt: skip
        reference = [np.concatenate([run(made.encoder.encode([text]))["logits"] for text in families.TEXTS])]
    finally:
        with torch.no_grad():
            head.weight.copy_(before)
    assert all(case.passed for case in found)
    with pytest.raises(ParityError, match="so a comparison proves nothing; expected a trained checkpoint"):
        export.require(found, reference, where="parity.json")


def test_outputs_that_differ_less_than_the_tolerance_prove_nothing():
    found = compare(outputs([0, 1], [0, 1.05]), outputs([0, 1], [0, 1]), atol=0.1)
    assert found[0].passed
    with pytest.raises(ParityError, match=r"differ by 0\.05 from row to row, no more than the 0\.1"):
        export.require(found, [np.array([[0, 1], [0, 1.05]])], where="parity.json")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["torch", "graph", "both"])
def test_an_output_that_is_no_finite_number_fails(value, side):
    whole, broken = outputs([1, 2], [3, 4]), outputs([1, value], [3, 4])
    found = compare(whole if side == "graph" else broken, whole if side == "torch" else broken)
    assert not found[0].passed
    with pytest.raises(ParityError, match="differs from torch by inf at 'one'"):
        export.require(found, [np.eye(2)], where="parity.json")


def test_another_shape_or_a_missing_output_fails():
    expected = outputs([1, 2], [3, 4])
    for got in (outputs([1, 2]), lambda feeds: {"other": np.zeros(1)}):
        found = compare(expected, got)
        assert not found[0].passed
        assert not found[0].same_decision


def test_the_limit_grows_with_the_value():
    expected, got = outputs([1000, 0], [1, 0]), outputs([1000.5, 0], [1, 0])
    assert compare(expected, got, atol=1e-4, rtol=1e-3)[0].passed
    assert not compare(expected, got, atol=1e-4, rtol=1e-4)[0].passed
    small = outputs([1000, 0.1], [1, 0])
    case = compare(expected, small, atol=1e-4, rtol=1e-3)[0]
    assert (case.passed, case.max_abs_diff) == (False, pytest.approx(0.1))
    assert case.allowed == pytest.approx(1e-4)


def test_a_change_of_answer_is_seen():
    case = compare(outputs([1, 1.00001], [0, 1]), outputs([1.00001, 1], [0, 1]))[0]
    assert case.passed
    assert not case.same_decision


def test_torch_runs_in_eval_mode_without_gradients(exported):
    made = exported("bert")
    made.model.train()
    run = export.torch_run(made.model)
    feeds = made.encoder.encode(families.TEXTS)
    first, second = run(feeds), run(feeds)
    assert not made.model.training
    assert isinstance(first["logits"], np.ndarray)
    np.testing.assert_array_equal(first["logits"], second["logits"])


def test_torch_runs_with_the_threads_asked_for(exported):
    made = exported("bert")
    before = torch.get_num_threads()
    try:
        export.torch_run(made.model, threads=2)(made.encoder.encode(["tea"]))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
