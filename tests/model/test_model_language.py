"""Language models: loaded, made with random weights, saved and loaded again; what is none is refused in one line."""

import json
import shutil
from pathlib import Path

import gguf_file
import pytest
import torch
from safetensors import safe_open
from tiny_language import CONTEXT, END, MODELS, checkpoint, tiny_gpt2, tiny_llama, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertLMHeadModel, T5Config, T5Model

from tledge.errors import ModelError
from tledge.inputs.text import TextInput
from tledge.model import (
    context_length,
    freeze,
    load_language,
    load_tokenizer,
    merged,
    save_language,
    vocabulary_size,
    with_lora,
)
from tledge.recipe.distillation import Shape
from tledge.recipe.training import Lora

IDS = torch.randint(0, 320, (2, 9), generator=torch.Generator().manual_seed(1))
KINDS = list(MODELS)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: checkpoint(tmp_path_factory.mktemp(kind) / "checkpoint", kind) for kind in KINDS}


def logits(module):
    with torch.inference_mode():
        return module(IDS).logits


def complaint(reference, **options):
    with pytest.raises(ModelError) as caught:
        load_language(str(reference), **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_loaded_and_saved_without_a_change(kind, folders, tmp_path):
    loaded = load_language(str(folders[kind]))
    assert not loaded.module.training
    torch.testing.assert_close(logits(loaded.module), logits(MODELS[kind]()), rtol=0, atol=0)
    save_language(loaded.module, tmp_path / "again", loaded.tokenizer)
    again = load_language(str(tmp_path / "again"))
    torch.testing.assert_close(logits(again.module), logits(loaded.module), rtol=0, atol=0)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    torch.testing.assert_close(logits(plain), logits(loaded.module), rtol=0, atol=0)
    assert context_length(again.config) == CONTEXT


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_a_folder_of_the_ecosystem(kind, folders, tmp_path):
    language = load_language(str(folders[kind]))
    save_language(language.module, tmp_path / "c", language.tokenizer)
    there = {path.name for path in (tmp_path / "c").iterdir()}
    assert there == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    config, tokens, generation = (
        json.loads((tmp_path / "c" / name).read_text())
        for name in ("config.json", "tokenizer_config.json", "generation_config.json")
    )
    assert "tledge" not in config
    assert config["architectures"][0].endswith(("CausalLM", "LMHeadModel"))
    assert config["dtype"] == "float32"
    assert tokens["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokens["padding_side"] == "left"
    assert tokens["model_max_length"] == CONTEXT
    assert tokens["model_input_names"] == ["input_ids", "attention_mask"]
    assert generation["eos_token_id"] == config["eos_token_id"] == 0
    if kind == "llama":
        assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    with safe_open(tmp_path / "c" / "model.safetensors", "np") as file:
        names = set(file.keys())
    assert ("lm_head.weight" in names) == (kind == "llama")  # GPT-2's is its embedding
    padded = TextInput.load(tmp_path / "c").encode(["The ferry", "x"])
    assert padded["attention_mask"].tolist() == [[1, 1], [0, 1]]


def test_rotary_positions_survive_with_another_base(tmp_path):
    module = tiny_llama(rope_parameters={"rope_type": "default", "rope_theta": 500.0})
    save_language(module, tmp_path, tiny_tokenizer())
    assert json.loads((tmp_path / "config.json").read_text())["rope_theta"] == 500.0
    torch.testing.assert_close(logits(load_language(str(tmp_path)).module), logits(module), rtol=0, atol=0)
    assert not torch.allclose(logits(module), logits(tiny_llama()))


def test_a_chat_template_stays_inside_the_tokenizers_config(folders, tmp_path):
    language = load_language(str(folders["gpt2"]))
    language.tokenizer.chat_template = "{{ messages[0].content }}"
    save_language(language.module, tmp_path, language.tokenizer)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["chat_template"]
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"


def test_half_precision_weights_are_computed_with_in_full(folders, tmp_path):
    tiny_gpt2().half().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    loaded = load_language(str(tmp_path))
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}
    assert loaded.config.dtype == torch.float32


# Random weights


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox", "qwen3"])
def test_random_weights_have_the_shape_that_was_asked_for(kind, folders):
    shape = Shape(n_layers=2, hidden_size=32, n_heads=2, intermediate_size=40)
    made = load_language(f"fresh:{kind}", shape=shape, tokenizer=str(folders["gpt2"]), seed=5, max_length=24)
    assert made.config.num_hidden_layers == 2
    assert made.config.hidden_size == 32
    assert made.config.num_attention_heads == 2
    assert context_length(made.config) == 24
    assert logits(made.module).shape == (2, 9, 320)
    for facts in (made.config, made.module.generation_config):
        assert (facts.eos_token_id, facts.bos_token_id, facts.pad_token_id) == (0, 0, 0)


def test_random_weights_follow_the_seed_and_leave_torchs_own_alone(folders):
    options = {"shape": Shape(n_layers=1, hidden_size=16, n_heads=2), "tokenizer": str(folders["gpt2"])}
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, same, other = (logits(load_language("fresh:gpt2", seed=s, **options).module) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_gpt2s_own_two_files_are_a_tokenizer(tmp_path):
    model = json.loads(tiny_tokenizer().backend_tokenizer.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    loaded = load_tokenizer("fresh:gpt2", tokenizer=str(tmp_path))
    text = "The ferry waits, près de la rivière."
    assert loaded(text).input_ids == tiny_tokenizer()(text).input_ids
    assert (loaded.eos_token, loaded.pad_token, loaded.padding_side) == (END, END, "left")
    assert vocabulary_size(loaded) == 320
    save_language(tiny_gpt2(), tmp_path / "saved", loaded)
    written = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert written["padding_side"] == "left", "which transformers does not write of itself"


def test_what_cannot_be_made(folders):
    own = str(folders["gpt2"])
    message = complaint("fresh:gpt3", tokenizer=own)
    assert message.startswith("model.backbone: transformers has no language model of the type 'gpt3'")
    assert "did you mean 'gpt" in message
    assert complaint("fresh:gpt2").startswith("model.tokenizer: 'fresh:gpt2' has random weights and no tokenizer")
    message = complaint("fresh:gpt2", tokenizer=own, shape=Shape(hidden_size=30, n_heads=4))
    assert message.startswith("model.shape: hidden_size 30 cannot be divided among 4 heads")
    assert complaint("fresh:mamba", tokenizer=own, shape=Shape(n_layers=2)).startswith("model.shape: the config of")


# GGUF


def test_a_gguf_file_gives_the_same_logits_and_tokens(tmp_path):
    path = gguf_file.write(tmp_path / "tiny.gguf", tiny_llama(), tiny_tokenizer())
    loaded = load_language(str(path))
    torch.testing.assert_close(logits(loaded.module), logits(tiny_llama()), rtol=0, atol=1e-6)
    text = "The ferry waits, près de la rivière."
    assert loaded.tokenizer(text).input_ids == tiny_tokenizer()(text).input_ids
    assert loaded.tokenizer.eos_token_id == loaded.module.generation_config.eos_token_id == 0
    assert context_length(loaded.config) == CONTEXT
    save_language(loaded.module, tmp_path / "checkpoint", loaded.tokenizer)
    again = load_language(str(tmp_path / "checkpoint"))
    torch.testing.assert_close(logits(again.module), logits(loaded.module), rtol=0, atol=0)
    assert "quantization_config" not in json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    assert load_tokenizer("fresh:gpt2", tokenizer=str(path))(text).input_ids == loaded.tokenizer(text).input_ids


def test_what_is_no_gguf_file_or_of_an_unknown_architecture(tmp_path):
    path = gguf_file.write(tmp_path / "odd.gguf", tiny_llama(), tiny_tokenizer(), architecture="llamma")
    message = complaint(path)
    assert "of the architecture 'llamma', which transformers cannot read from GGUF; known are " in message
    assert "did you mean 'llama'?" in message
    whole = gguf_file.write(tmp_path / "whole.gguf", tiny_llama(), tiny_tokenizer()).read_bytes()
    for content in (b"", b"no such thing" * 9, whole[:30], whole[:900]):
        (tmp_path / "bad.gguf").write_bytes(content)
        assert "is not a whole GGUF file" in complaint(tmp_path / "bad.gguf")
    (tmp_path / "bad.gguf").write_bytes(whole[:-4000])
    assert "bad.gguf" in complaint(tmp_path / "bad.gguf")
    assert complaint(tmp_path / "gone.gguf").endswith(f"there is no file {str(tmp_path / 'gone.gguf')!r}")


# What is no language model


def test_encoders_and_encoder_decoders_are_refused(tmp_path, pretrained):
    tiny_tokenizer().save_pretrained(tmp_path / "t5")
    T5Model(
        T5Config(vocab_size=320, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    ).save_pretrained(tmp_path / "t5")  # fmt: skip
    assert "is an encoder-decoder (t5)" in complaint(tmp_path / "t5")
    tiny_tokenizer().save_pretrained(tmp_path / "bert")
    config = BertConfig(
        vocab_size=320, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        initializer_range=0.5,
    )  # fmt: skip
    BertLMHeadModel(config).save_pretrained(tmp_path / "bert")
    assert "(bert) is an encoder: each token sees the ones after it" in complaint(tmp_path / "bert")
    config.is_decoder = True
    BertLMHeadModel(config).save_pretrained(tmp_path / "bert")
    assert load_language(str(tmp_path / "bert")).module.config.is_decoder
    assert complaint(pretrained("distilbert")).startswith("model.backbone: ")


def test_a_body_without_its_output_layer_is_refused(tmp_path):
    tiny_llama().model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert "is no language model: it lacks 1 weights, such as 'lm_head.weight'" in complaint(tmp_path)


def test_a_tokenizer_larger_than_the_embedding_is_refused(folders, tmp_path):
    checkpoint(tmp_path, vocab_size=300)
    message = complaint(tmp_path)
    assert "has 320 tokens, but the embedding of" in message
    assert "has 300; take the tokenizer" in message


def test_tokenizers_that_cannot_serve(folders, tmp_path):
    assert complaint(tmp_path / "gone").endswith(f"there is no folder {str(tmp_path / 'gone')!r}")
    shutil.copytree(folders["gpt2"], tmp_path / "endless")
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "endless")
    assert "has no token that ends a text; set eos_token" in complaint(tmp_path / "endless")
    shutil.copytree(folders["gpt2"], tmp_path / "mute")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        Path(tmp_path / "mute" / name).unlink()
    assert "mute' has no tokenizer files; expected tokenizer.json" in complaint(tmp_path / "mute")
    (tmp_path / "mute" / "tokenizer.json").write_text("{}")
    assert "cannot load the tokenizer of" in complaint(tmp_path / "mute")
    assert complaint(folders["gpt2"], tokenizer=str(tmp_path / "nowhere")).startswith("model.tokenizer: there is no")


def test_another_tokenizers_ids_replace_the_models_own(folders, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = "The"
    tokenizer.save_pretrained(tmp_path)
    number = tokenizer.eos_token_id
    loaded = load_language(str(folders["gpt2"]), tokenizer=str(tmp_path))
    assert loaded.config.eos_token_id == loaded.module.generation_config.eos_token_id == number != 0
    assert load_language(str(folders["gpt2"])).config.eos_token_id == 0


def test_a_config_without_a_context_is_refused():
    with pytest.raises(ModelError, match="names no context length"):
        context_length(type("Config", (), {"model_type": "bloom"})())


# Adapters


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_start_as_nothing_and_merge_into_the_weights(kind):
    module = MODELS[kind]()
    plain, names = logits(module), list(module.state_dict())
    adapted = with_lora(module, Lora(rank=4, alpha=6))
    torch.testing.assert_close(logits(adapted), plain, rtol=0, atol=1e-6)
    training = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert training
    assert all("lora_" in name for name in training)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    changed = logits(adapted)
    assert (changed - plain).abs().max() > 0.1
    result = merged(adapted)
    torch.testing.assert_close(logits(result), changed, rtol=1e-4, atol=1e-4)
    assert type(result) is type(MODELS[kind]())
    assert list(result.state_dict()) == names
    assert all(p.requires_grad for p in result.parameters())


def test_adapters_go_where_they_are_asked_to_go_and_never_on_the_output_layer():
    def adapted_layers(module, **settings):
        adapted = with_lora(module, Lora(**settings))
        return {name.split(".")[-4] for name, p in adapted.named_parameters() if "lora_A" in name and p.requires_grad}

    assert adapted_layers(tiny_gpt2()) == {"c_attn", "c_proj", "c_fc"}
    every = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert adapted_layers(tiny_llama()) == every
    assert adapted_layers(tiny_llama(), targets=["q_proj", "v_proj"]) == {"q_proj", "v_proj"}
    with pytest.raises(ModelError, match=r"no linear layer 'q_prj'; they have q_proj, .*did you mean 'q_proj'\?"):
        with_lora(tiny_llama(), Lora(targets=["v_proj", "q_prj"]))


def test_adapters_follow_the_seed():
    def first(seed):
        adapted = with_lora(tiny_gpt2(), Lora(), seed=seed)
        return next(p for name, p in adapted.named_parameters() if "lora_A" in name)

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


# Freezing


@pytest.mark.parametrize(("kind", "after"), [("gpt2", {"transformer.ln_f"}), ("llama", {"model.norm", "lm_head"})])
def test_the_last_blocks_train_with_what_comes_after_them(kind, after):
    module = MODELS[kind]()
    freeze(module, "partial", unfreeze=1)
    training = {name for name, p in module.named_parameters() if p.requires_grad}
    inside = {name for name in training if ".1." in name}
    assert inside
    assert {name.rpartition(".")[0] for name in training - inside} == after
