import copy

import numpy as np
import onnx
import onnx_ir
import pytest
import tiny_language
import torch
import transformers
from decoder_graph import decoder

from tledge import export
from tledge.errors import ExportError, ParityError
from tledge.export import check_decoder, decoder_parity, export_decoder, last_logits
from tledge.export import decoder as exporting
from tledge.runtime import open_session, session_run

PROMPTS = ([5, 61, 7, 8, 9, 10, 211, 12, 13], [20, 30, 40], [100, 101, 102, 103, 104, 105])
TOLERANCES = {"context": tiny_language.CONTEXT, "atol": 1e-4, "rtol": 1e-4}


def torch_graph(module):
    """A graph's run by torch, for tests of the comparison that need none in onnxruntime."""
    flat = exporting._Flat(module)

    def run(feeds):
        with torch.inference_mode():
            outputs = flat(*(torch.from_numpy(feeds[name]) for name in feeds))
        names = [f"present.{i}.{kind}" for i in range((len(outputs) - 1) // 2) for kind in ("key", "value")]
        return {name: tensor.numpy() for name, tensor in zip(["logits", *names], outputs, strict=True)}

    return run


@pytest.mark.parametrize(("kind", "n_heads"), [("gpt2", 2), ("llama", 1)])
def test_inputs_and_outputs_are_those_of_the_ecosystem_in_their_order(kind, n_heads):
    graph = decoder(kind).graph
    names = [f"{i}.{part}" for i in range(2) for part in ("key", "value")]
    tokens = {
        "input_ids": ("batch_size", "sequence_length"),
        "attention_mask": ("batch_size", "total_sequence_length"),
        "position_ids": ("batch_size", "sequence_length"),
    }
    past = {f"past_key_values.{name}": ("batch_size", n_heads, "past_sequence_length", 16) for name in names}
    present = {f"present.{name}": ("batch_size", n_heads, "total_sequence_length", 16) for name in names}
    assert [(v.name, v.dtype, v.shape) for v in graph.inputs] == [
        *((name, "int64", shape) for name, shape in tokens.items()),
        *((name, "float32", shape) for name, shape in past.items()),
    ]
    assert [(v.name, v.dtype, v.shape) for v in graph.outputs] == [
        ("logits", "float32", ("batch_size", "sequence_length", 320)),
        *((name, "float32", shape) for name, shape in present.items()),
    ]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_graph_has_the_form_that_every_graph_has(kind):
    model = onnx.load(decoder(kind).path)
    onnx.checker.check_model(model)
    assert (model.ir_version, model.producer_name) == (10, "tledge")
    assert not any(node.metadata_props for node in model.graph.node)
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    norms = [node for node in model.graph.node if node.op_type == ("LayerNormalization" if kind == "gpt2" else "Div")]
    assert [makers[node.input[0]] for node in norms] == ["Sum" if kind == "gpt2" else "Gather", *["Sum"] * 4]
    assert "Reciprocal" not in makers.values()


@pytest.mark.parametrize(
    ("kind", "changes"), [("gpt2", {}), ("llama", {}), ("llama", {"tie_word_embeddings": True, "num_hidden_layers": 1})]
)
def test_decoders_are_exported_whole_and_their_weights_once(kind, changes):
    made = decoder(kind, **changes)
    model = onnx.load(made.path)
    weights = sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)
    assert weights == pytest.approx(4 * made.module.num_parameters(), abs=3000)  # a second table would be 41 kB more
    tables = {node.input[0] for node in model.graph.node if node.op_type == "Gather"}
    shared = [node for node in model.graph.node if node.op_type == "Gemm" and node.input[1] in tables]
    assert len(shared) == made.module.config.tie_word_embeddings
    found = check_decoder(made.module, made.run, PROMPTS, **TOLERANCES)
    export.require(found, [last_logits(made.module, PROMPTS)], where="here")
    assert all(case.same_decision for case in found)


def test_a_sliding_window_is_the_masks_affair(tmp_path):
    """Torch's own generation drops what left the window; the graph keeps it and masks it."""
    torch.manual_seed(0)
    config = transformers.MistralConfig(
        vocab_size=320, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        intermediate_size=48, max_position_embeddings=64, sliding_window=8, initializer_range=0.2,
    )  # fmt: skip
    module = transformers.MistralForCausalLM(config).eval()
    export_decoder(module, tmp_path / "model.onnx", opset=20, external_data=False)
    found = check_decoder(module, session_run(open_session(tmp_path / "model.onnx")), PROMPTS, **TOLERANCES)
    assert all(case.passed and case.same_decision for case in found)


def test_the_module_is_left_as_it_was():
    module = decoder("gpt2").module
    assert module.config._attn_implementation == tiny_language.tiny_gpt2().config._attn_implementation
    assert module.config._attn_implementation != "eager"
    assert not module.training


def test_parity_covers_what_a_decoder_is_used_for():
    made = decoder("gpt2")
    seen = []

    def watched(feeds):
        seen.append((feeds["input_ids"].shape, feeds["past_key_values.0.key"].shape[2], feeds["attention_mask"].all()))
        return made.run(feeds)

    found = check_decoder(made.module, watched, PROMPTS, **TOLERANCES)
    assert all(case.passed and case.same_decision for case in found)
    assert len({case.name for case in found}) == len(found)
    lengths = {shape[1] for shape, past, _ in seen if past == 0}
    assert {1, 2, 3, 17, 33, 64} <= lengths, "prompts of every kind of length"
    assert {(shape[0] > 1, shape[1] > 1) for shape, past, _ in seen if past} >= {(False, False), (False, True)}
    assert any(past and shape[1] > 1 and not whole for shape, past, whole in seen), "several tokens after a padded past"
    assert max(shape[1] + past for shape, past, _ in seen) == 64, "the whole context"
    greedy = [case for case in found if "greedily" in case.name]
    assert [(case.batch, case.padded) for case in greedy] == [(1, False)] * 3 + [(3, True)]


WRONG = {
    "positions off by one": lambda feeds: {"position_ids": np.minimum(feeds["position_ids"] + 1, 63)},
    "another layer's past": lambda feeds: {"past_key_values.0.key": feeds["past_key_values.1.key"]},
    "a past that is lost": lambda feeds: {k: array * 0 for k, array in feeds.items() if k.startswith("past")},
    "padding that is read": lambda feeds: {"attention_mask": np.ones_like(feeds["attention_mask"])},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_graph_is_found_out(name):
    made, change = decoder("gpt2"), WRONG[name]
    found = check_decoder(made.module, lambda feeds: made.run(feeds | change(feeds)), PROMPTS, **TOLERANCES)
    failed = [case.name for case in found if not case.passed]
    assert any("greedily" in case for case in failed)
    if name == "padding that is read":  # which nothing but a padded batch shows
        assert failed and all("padded batch" in case for case in failed)
    else:
        assert any("token by token" in case for case in failed)
    with pytest.raises(ParityError, match="the graph differs from torch by"):
        export.require(found, [last_logits(made.module, PROMPTS)], where="here")


def apart(size, off):
    """The parity case of a pass whose logits and keys have this root mean square, and another that is `off` from it."""
    rng = np.random.default_rng(0)
    logits, keys = (rng.normal(0, size, (1, *shape)).astype(np.float32) for shape in ((4, 50), (2, 4, 8)))
    expected, got = (decoder_parity._Pass(logits + by, (keys + by,)) for by in (0, np.float32(off)))
    return decoder_parity._case("made up", (1, 4), False, [(expected, got)], decoder_parity._Limits(1e-4, 0))


@pytest.mark.parametrize(
    ("size", "off", "passed"), [(0.5, 8e-5, True), (0.5, 2e-4, False), (5, 4e-4, True), (5, 1e-3, False)]
)
def test_the_tolerance_grows_with_what_is_compared(size, off, passed):
    case = apart(size, off)
    assert (case.passed, case.max_abs_diff) == (passed, pytest.approx(off, rel=0.01))
    assert case.allowed == pytest.approx(1e-4 * max(1, size), rel=0.2)


def test_values_that_are_no_numbers_are_never_alike():
    expected, got = (decoder_parity._Pass(np.full((1, 2, 3), each, np.float32), ()) for each in (np.inf, 1))
    assert not decoder_parity._case("", (1, 2), False, [(expected, got)], decoder_parity._Limits(1e-4, 0)).passed


def test_wrong_keys_are_found_out_though_the_logits_are_right():
    made = decoder("gpt2")

    def run(feeds):
        outputs = made.run(feeds)
        last = outputs["present.1.value"].copy()
        last[:, :, -1] += 1e-3  # nobody has read it yet
        return outputs | {"present.1.value": last}

    failed = [case.name for case in check_decoder(made.module, run, PROMPTS, **TOLERANCES) if not case.passed]
    assert "random tokens, batch 1, length 1" in failed


def test_near_ties_are_counted_and_no_failure_but_other_tokens_are():
    """Each two neighbouring tokens are one and the same to the model, so that either may come."""
    module = tiny_language.tiny_gpt2()
    with torch.no_grad():
        table = module.transformer.wte.weight
        table[1::2] = table[::2]
    exact = torch_graph(module)

    def tipped(by):
        def run(feeds):
            outputs = exact(feeds)
            outputs["logits"] = outputs["logits"].copy()
            outputs["logits"][..., 1::2] += by
            return outputs

        return run

    found = check_decoder(module, tipped(2e-6), PROMPTS, **TOLERANCES)
    assert all(case.passed for case in found)
    names = [case.name for case in found if "greedily" in case.name]
    assert names[0] == "prompt 1, 55 tokens greedily, 55 of them near ties that fall otherwise"
    assert names[-1].endswith("55 tokens greedily, 165 of them near ties that fall otherwise")
    assert not any(case.same_decision for case in found)

    def last_first(feeds):
        outputs = exact(feeds)
        return outputs | {"logits": -outputs["logits"]}

    greedy = [case for case in check_decoder(module, last_first, PROMPTS, **TOLERANCES) if "greedily" in case.name]
    assert not any(case.passed for case in greedy)
    assert all(case.max_abs_diff > 1 and "near ties" not in case.name for case in greedy)


def test_the_reference_is_not_what_the_model_itself_would_do_with_its_settings():
    """Settings that end a text early, or forbid what was said, are no affair of the graph."""
    made = decoder("llama")
    module = copy.deepcopy(made.module)
    module.generation_config.update(repetition_penalty=3.0, eos_token_id=list(range(320)), max_new_tokens=2)
    mine = module.generation_config
    found = check_decoder(module, made.run, PROMPTS, **TOLERANCES)
    assert all(case.passed and case.same_decision for case in found)
    assert module.generation_config is mine


@pytest.mark.parametrize(
    ("first", "length", "sizes"), [(0, 9, [3, 1, 5]), (7, 9, [7, 2]), (0, 1, [1]), (0, 13, [3, 1, 5, 2, 2])]
)
def test_pieces_add_up(first, length, sizes):
    assert decoder_parity._pieces(first, length) == sizes


def test_last_logits_are_those_after_each_prompt():
    module = tiny_language.tiny_gpt2()
    got = last_logits(module, PROMPTS)
    assert got.shape == (3, 320)
    with torch.no_grad():
        np.testing.assert_allclose(got[1], module(torch.tensor([PROMPTS[1]])).logits[0, -1], atol=1e-5)


def test_weights_of_another_precision_are_refused(tmp_path):
    module = tiny_language.tiny_gpt2().to(torch.bfloat16)
    with pytest.raises(ExportError, match=r"torch\.bfloat16; expected float32"):
        export_decoder(module, tmp_path / "m.onnx", opset=20, external_data=False)


def test_a_model_without_keys_and_values_is_one_line(tmp_path):
    config = transformers.MambaConfig(vocab_size=32, hidden_size=8, num_hidden_layers=1, state_size=4)
    module = transformers.MambaForCausalLM(config).eval()
    with pytest.raises(ExportError) as caught:
        export_decoder(module, tmp_path / "m.onnx", opset=20, external_data=False)
    assert str(caught.value).startswith("export: ")
    assert "\n" not in str(caught.value)


def test_a_size_that_is_baked_in_is_refused():
    made = decoder("gpt2")
    program = onnx_ir.load(made.path)
    exporting._require_dynamic(program, made.module)
    program.graph.inputs[0].shape = onnx_ir.Shape([2, "sequence_length"])
    with pytest.raises(
        ExportError, match=r"GPT2LMHeadModel has the shape \[2,sequence_length\] at 'input_ids'; expected any"
    ):
        exporting._require_dynamic(program, made.module)
