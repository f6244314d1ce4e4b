"""What can be timed: variants of bundles, and ONNX files of others with what their inputs are made up of."""

import decoder_graph
import foreign
import language_bundle
import numpy as np
import onnx
import overflowing
import pytest
from onnx import TensorProto, helper

from tledge import bench, processor
from tledge.bench import bundled, compare, targets
from tledge.errors import BundleError, InputError
from tledge.runtime import open_session, session_run


def save(path, inputs):
    """A graph that passes its inputs on."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name, _, _ in inputs]
    infos = [helper.make_tensor_value_info(*each) for each in inputs]
    outputs = [helper.make_tensor_value_info(f"{name}_out", dtype, shape) for name, dtype, shape in inputs]
    graph = helper.make_graph(nodes, "identity", infos, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_the_chosen_variant_unless_another_is_asked_for(tiny_bundle):
    assert targets.resolve(tiny_bundle).name == "int8"
    assert targets.resolve(tiny_bundle, "fp32").graph.name == "model.onnx"
    assert [each.name for each in targets.variants(tiny_bundle)] == ["fp32", "int8"]
    assert [each.name for each in targets.variants(tiny_bundle, ["int8", "int8"])] == ["int8"]


def test_a_run_folder_stands_for_its_bundle(tiny, tmp_path):
    tiny.write(tmp_path / "run" / "bundle")
    assert targets.resolve(tmp_path / "run").manifest.name == "tiny"


def test_lengths_of_a_bundle(tiny_bundle):
    target = targets.resolve(tiny_bundle)
    assert (target.length(), target.length(8)) == (16, 8)
    with pytest.raises(InputError, match="takes at most 16 tokens, got 17"):
        target.length(17)


@pytest.mark.parametrize(
    ("path", "variant", "error", "message"),
    [
        ("bundle", "int9", InputError, "'int9' is not in .*known are fp32, int8; did you mean 'int8'?"),
        ("nothing", None, BundleError, "there is no .*nothing"),
        ("nothing.onnx", None, BundleError, "there is no .*nothing.onnx"),
        ("plain.onnx", "int8", InputError, "one graph without variants"),
    ],
)
def test_what_is_not_there_is_named(path, variant, error, message, tiny_bundle, tmp_path):
    save(tmp_path / "plain.onnx", [("x", TensorProto.FLOAT, ["batch", 4])])
    with pytest.raises(error, match=message):
        targets.resolve(tmp_path / path, variant)


def test_inputs_of_a_plain_graph_are_made_up_from_their_types_and_dimensions(tmp_path):
    path = save(
        tmp_path / "text.onnx",
        [
            ("ids", TensorProto.INT64, ["batch_size", "sequence_length"]),
            ("mask", TensorProto.BOOL, ["batch_size", "sequence_length"]),
            ("half", TensorProto.FLOAT16, ["batch_size", 3]),
        ],
    )
    target = targets.resolve(path)
    feeds = target.feeds(2, 5)
    assert {name: (array.shape, array.dtype.name) for name, array in feeds.items()} == {
        "ids": ((2, 5), "int64"), "mask": ((2, 5), "bool"), "half": ((2, 3), "float16"),
    }  # fmt: skip
    assert feeds["mask"].all()
    assert np.array_equal(feeds["half"], target.feeds(2, 5)["half"])
    assert target.length() == 32


def test_a_plain_graph_without_a_length(tmp_path):
    target = targets.resolve(save(tmp_path / "image.onnx", [("x", TensorProto.FLOAT, ["N", 3, 8, 8])]))
    assert target.length() is None
    assert target.feeds(4, None)["x"].shape == (4, 3, 8, 8)


def test_a_dimension_that_is_not_known_is_asked_for(tmp_path):
    path = save(tmp_path / "image.onnx", [("x", TensorProto.FLOAT, ["batch", 3, "height", "width"])])
    with pytest.raises(InputError, match="dimension 'height' of the input 'x' is not known; give it: --dim height=N"):
        targets.resolve(path)
    target = targets.resolve(path, dims={"height": 6, "width": 7})
    assert target.feeds(1, None)["x"].shape == (1, 3, 6, 7)
    with pytest.raises(
        InputError, match=r"'heigth' is no dimension of .*its named dimensions are batch, height, width"
    ):
        targets.resolve(path, dims={"heigth": 6})


def test_dimensions_of_a_bundle_are_its_own(tiny_bundle):
    with pytest.raises(InputError, match="is a bundle, which knows its inputs"):
        targets.resolve(tiny_bundle, dims={"batch": 2})


def test_text_inputs_cannot_be_made_up(tmp_path):
    path = save(tmp_path / "strings.onnx", [("x", TensorProto.STRING, ["batch"])])
    with pytest.raises(InputError, match=r"'x' is a tensor\(string\), which cannot be made up"):
        targets.resolve(path)


def test_a_run_of_a_language_model_is_one_token_after_a_past():
    target = targets.resolve(language_bundle.shared(), "fp32")
    assert (target.decoding, target.length(), target.length(63)) == (True, 32, 63)
    feeds = target.feeds(2, 10)
    assert {name: array.shape for name, array in feeds.items() if "." not in name} == {
        "input_ids": (2, 1), "attention_mask": (2, 11), "position_ids": (2, 1)
    }  # fmt: skip
    assert feeds["past_key_values.1.value"].shape == (2, 2, 10, 16)
    logits = session_run(open_session(target.graph, threads=1))(feeds)["logits"]
    assert logits.shape == (2, 1, 320)
    with pytest.raises(InputError, match="takes at most 63 tokens before the one that is timed, got 64"):
        target.length(64)


def test_a_decoder_that_is_no_bundle_is_known_by_its_past():
    made = decoder_graph.decoder("llama")
    target = targets.resolve(made.path)
    assert (target.decoding, target.manifest) == (True, None)
    assert target.feeds(3, 7)["past_key_values.0.key"].shape == (3, 1, 7, 16)


def feeds_of(path, batch=2, length=5):
    """Made-up inputs that the graph itself takes."""
    target = targets.resolve(path)
    feeds = target.feeds(batch, length)
    session_run(open_session(path, threads=1))(feeds)
    return feeds


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
@pytest.mark.parametrize("segments", [1, 2])
def test_segments_are_zeros_and_masks_hide_nothing(kind, segments, tmp_path):
    feeds = feeds_of(foreign.text(tmp_path / "g.onnx", kind=kind, segments=segments))
    assert {name: set(array.ravel()) for name, array in feeds.items()} == {
        "input_ids": {1}, "attention_mask": {1}, "token_type_ids": {0}
    }  # fmt: skip
    assert {array.dtype.name for array in feeds.values()} == {"int64" if kind == TensorProto.INT64 else "int32"}


def test_indices_are_rows_of_the_tables_they_look_up_and_masks_of_any_type_are_ones(tmp_path):
    nodes = [
        helper.make_node("Cast", ["language_head"], ["s"], to=TensorProto.INT64),
        ("Gather", ["voices", "s"], ["a"]),
        ("Mul", ["a", "my_mask"], ["y"]),
    ]
    taken = [("language_head", TensorProto.INT32, ["batch"]), ("my_mask", TensorProto.FLOAT, ["batch", 1])]
    path = foreign.save(tmp_path / "g.onnx", nodes, taken, [("y", 1, None)], {"voices": foreign.table(1)})
    feeds = feeds_of(path)
    assert (feeds["language_head"].tolist(), feeds["my_mask"].tolist()) == ([0, 0], [[1], [1]])
    empty = foreign.save(tmp_path / "e.onnx", nodes, taken, [("y", 1, None)], {"voices": foreign.table(0)})
    with pytest.raises(InputError, match="the input 'language_head' looks up a table without rows"):
        targets.resolve(empty)


def test_a_run_that_fails_names_the_inputs_that_were_made_up(tmp_path):
    nodes = [("Add", ["ids", "far"], ["i"]), ("Gather", ["t", "i"], ["y"])]
    stored = {"far": np.array([1000]), "t": foreign.table(3)}
    path = foreign.save(tmp_path / "g.onnx", nodes, [("ids", 7, ["batch", "seq"])], [("y", 1, None)], stored)
    said = r"the graph could not run: .*; its inputs were made up: 'ids' \(tensor\(int64\), ones\)$"
    with pytest.raises((InputError, BundleError), match=said):
        bundled.run_bundle(path, duration_s=0.2)
    target = targets.resolve(path)
    with pytest.raises((InputError, BundleError), match=said):
        bench.compared(target, target, [compare.Setting()], duration_s=0.2)


@pytest.mark.parametrize(
    ("path", "dims", "batch", "length", "said"),
    [
        ("image.onnx", {}, 4, None, "all runs have a batch of 4, as the graph takes no other (its input 'x' is 4 x 3"),
        (
            "short.onnx",
            {},
            None,
            16,
            "all rows have 16 tokens, as the graph takes no other (its input 'input_ids' is b",
        ),
        ("both.onnx", {}, 1, 16, "short"),
        ("any.onnx", {"batch_size": 3, "sequence_length": 9}, 3, 9, None),
        ("any.onnx", {}, None, None, None),
    ],
)
def test_fixed_sizes_are_known_and_told(path, dims, batch, length, said, tmp_path):
    foreign.image(tmp_path / "image.onnx", batch=4)
    foreign.text(tmp_path / "short.onnx", ("batch", 16))
    foreign.text(tmp_path / "both.onnx", (1, 16))
    foreign.text(tmp_path / "any.onnx")
    target = targets.resolve(tmp_path / path, dims=dims)
    assert (target.fixed_batch and target.fixed_batch.size, target.fixed_length and target.fixed_length.size) == (
        batch, length
    )  # fmt: skip
    assert target.batch() == (batch or 1)
    assert target.length() == (None if path == "image.onnx" else length or 32)
    feeds = target.feeds(target.batch(), target.length())
    assert {array.shape[0] for array in feeds.values()} == {target.batch()}
    session_run(open_session(target.graph, threads=1))(feeds)
    told = target.fixed_sizes()
    if path == "both.onnx":
        assert len(told) == 2
    else:
        assert len(told) == (said is not None)
        assert not told or told[0].startswith(f"{target.name}: {said}")


def test_another_size_than_the_fixed_one_is_refused(tmp_path):
    target = targets.resolve(foreign.text(tmp_path / "g.onnx", (1, 16)))
    assert (target.batch(1), target.length(16)) == (1, 16)
    with pytest.raises(InputError, match=r"--batch: g takes a batch of 1 alone \(its input .*\), got 8; leave --batch"):
        target.batch(8)
    with pytest.raises(InputError, match=r"--length: g takes a length of 16 alone .*, got 128; leave --length out"):
        target.length(128)
    path = foreign.text(tmp_path / "any.onnx")
    target = targets.resolve(path, dims={"batch_size": 3, "sequence_length": 9})
    with pytest.raises(InputError, match="--batch: any has --dim batch_size=3, got 1; leave one of them out"):
        target.batch(1)
    with pytest.raises(InputError, match="--length: any has --dim sequence_length=9, got 8"):
        target.length(8)


@pytest.mark.parametrize(
    ("taken", "given", "batch", "length"),
    [
        ([("settings", 1, [3]), ("x", 1, ["batch", 4])], ["batch", 4], None, None),
        ([("x", 1, [2, 8, 8])], [2, 10], 2, None),
        ([("x", 1, [5])], [5], 5, None),
        ([("x", 1, [])], [], 1, None),
        ([("ids", 7, [1, 16]), ("mask", 7, ["batch", "seq"])], [1], 1, 16),
        ([("input_ids", 7, ["batch", "seq"]), ("ids", 7, ["batch", 1])], ["batch"], None, None),
        ([("ids", 7, [2, 16]), ("more_ids", 7, [2, 24])], [2], 2, None),
    ],
)
def test_what_counts_as_a_batch_and_as_a_length(taken, given, batch, length, tmp_path):
    nodes = [("Gather", ["t", name], [f"{name}_y"]) for name, _, _ in taken if "ids" in name]
    taken_first = taken[0][0] if not nodes else f"{taken[0][0]}_y"
    nodes += [("Shape", [taken_first], ["s"]), ("ConstantOfShape", ["s"], ["y"])]
    path = foreign.save(tmp_path / "g.onnx", nodes, taken, [("y", 1, given)], {"t": foreign.table(9)})
    target = targets.resolve(path)
    assert (target.fixed_batch and target.fixed_batch.size, target.fixed_length and target.fixed_length.size) == (
        batch, length
    )  # fmt: skip


def test_a_single_image_is_a_batch_of_1(tmp_path):
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0)]
    target = targets.resolve(foreign.save(tmp_path / "g.onnx", nodes, [("x", 1, [3, 8, 8])], [("y", 1, [])]))
    assert target.batch() == 1
    assert target.fixed_sizes() == (
        "g: all runs have a batch of 1, as the graph takes no other (its input 'x' is 3 x 8 x 8)",
    )


def test_two_graphs_are_compared_at_a_size_that_both_take(tmp_path):
    free = targets.resolve(foreign.text(tmp_path / "free.onnx"))
    fixed = targets.resolve(foreign.text(tmp_path / "fixed.onnx", (4, 16)))
    other = targets.resolve(foreign.text(tmp_path / "other.onnx", (2, 16)))
    assert targets.shared(free, free, None, None) == (1, 32)
    assert targets.shared(free, fixed, None, None) == targets.shared(fixed, free, None, None) == (4, 16)
    for pair in ((free, fixed), (fixed, free)):
        with pytest.raises(InputError, match="--batch: fixed takes a batch of 4 alone"):
            targets.shared(*pair, 1, None)
        with pytest.raises(InputError, match="--length: fixed takes a length of 16 alone"):
            targets.shared(*pair, None, 32)
    with pytest.raises(
        InputError, match=r"--against: fixed takes a batch of 4 alone \(.*\), other one of 2 \(.*export"
    ):
        targets.shared(fixed, other, None, None)
    with pytest.raises(InputError, match="takes a batch of 4 alone"):
        compare.compare(fixed, free, setting=compare.Setting(), duration_s=0.1)


@pytest.mark.parametrize(("past", "batch", "length"), [(("batch", 7), None, 7), ((1, "past"), 1, None)])
def test_a_decoder_of_a_fixed_past_or_batch(past, batch, length, tmp_path):
    model = onnx.load(decoder_graph.decoder("llama").path)
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if batch is not None:
            dims[0].dim_value = batch
        if value.name.startswith("past_key_values") and length is not None:
            dims[2].dim_value = length
    onnx.save(model, tmp_path / "g.onnx")
    target = targets.resolve(tmp_path / "g.onnx")
    assert target.decoding
    assert (target.batch(), target.length()) == (batch or 1, length or 32)
    session_run(open_session(target.graph, threads=1))(target.feeds(target.batch(), target.length()))
    assert len(target.fixed_sizes()) == 1


@pytest.mark.parametrize(("here", "also"), [(overflowing.AVX2, ", as this one does"), (overflowing.VNNI, "")])
def test_int8_that_can_overflow_is_told(here, also, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "here", lambda: here)
    folder = overflowing.write(tiny, tmp_path / "bundle", 65, processor=here)
    assert targets.resolve(folder).caveats() == (
        f"int8: 3 of 3 pairs of int8 weights can overflow, in 1 layer: processors that add in 16 bits{also} answer "
        "otherwise; mend a run with: tledge run RUN --set quantize.overflow_fix=pairs, and a graph of another "
        "tool with: tledge quantize FILE.onnx --overflow-fix pairs",
    )
    assert targets.resolve(folder, "fp32").caveats() == ()


def test_another_kind_of_processor_than_that_of_the_evidence_is_told_once(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "here", lambda: overflowing.VNNI)
    folder = overflowing.write(tiny, tmp_path / "bundle", 1)
    result = bundled.run_bundle(folder, lengths=[8], percentile=50, duration_s=1)
    told = [note for note in result.notes if "scored and timed" in note]
    assert told == [
        "the bundle was scored and timed on x86_64 AVX2 without VNNI, and this machine is x86_64 AVX512-VNNI: its "
        "answers here are checked by tledge verify, and another variant may be the fastest"
    ]
