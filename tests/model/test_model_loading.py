import json
import shutil
from pathlib import Path

import families
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen2Config, Qwen2Model

from tledge import model
from tledge.errors import ModelError, TrainError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 + "\nsize 90868376\n"


def copied(pretrained, tmp_path, family="bert"):
    return Path(shutil.copytree(pretrained(family), tmp_path / "copy"))


def rewrite(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file(change(tensors), path, metadata={"format": "pt"})


def renamed(folder, rename):
    rewrite(folder, lambda tensors: {rename(name): tensor for name, tensor in tensors.items()})


def configured(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def complaint(folder):
    with pytest.raises(ModelError) as caught:
        model.load_backbone(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "module.model.bert."])
def test_a_wrappers_prefix_is_taken_off_and_told(prefix, pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    renamed(folder, lambda name: prefix + name)
    backbone = model.load_backbone(str(folder))
    original = model.load_backbone(str(pretrained("bert")))
    assert model.weights_digest(backbone.module) == model.weights_digest(original.module)
    assert original.notes == ()
    (note,) = backbone.notes
    assert "were found by their names without" in note


def test_more_blocks_than_the_config_counts_are_refused(pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    assert "of blocks that its config.json does not count, such as 'encoder.layer.1." in complaint(folder)


def test_what_is_not_used_is_told(pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    rewrite(folder, lambda tensors: tensors | {"extra.weight": torch.zeros(5)})
    assert model.load_backbone(str(folder)).notes == (f"not used of {folder}: 1 tensors: extra.weight",)


def test_a_folder_without_a_tokenizer_is_told(pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    assert "has no tokenizer: expected tokenizer.json" in complaint(folder)


def test_names_of_compiled_layers_are_found(pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    renamed(folder, lambda name: name.replace("layer.1.", "layer.1._orig_mod."))
    backbone = model.load_backbone(str(folder))
    original = model.load_backbone(str(pretrained("bert")))
    assert model.weights_digest(backbone.module) == model.weights_digest(original.module)


def test_what_does_not_fit_is_counted_and_named(pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    renamed(folder, lambda name: name.replace("layer.1", "layer.one"))
    message = complaint(folder)
    assert "16 missing: encoder.layer.1.attention.output.LayerNorm.bias, " in message
    assert "16 unexpected: encoder.layer.one.attention.output.LayerNorm.bias, " in message


def test_another_shape_is_named(pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    name = "encoder.layer.0.attention.self.query.bias"
    rewrite(folder, lambda tensors: tensors | {name: torch.zeros(5)})
    assert f"1 of another shape: {name} 5 instead of 32" in complaint(folder)


def test_a_pooler_may_be_missing_unless_it_is_asked_for(pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    rewrite(folder, lambda tensors: {n: t for n, t in tensors.items() if not n.startswith("pooler")})
    backbone = model.load_backbone(str(folder))
    assert backbone.pooling == "mean" and backbone.missing == ("pooler.dense.bias", "pooler.dense.weight")
    with pytest.raises(ModelError, match=r"lacks 2 weights of its pooler, such as 'pooler.dense.bias'"):
        families.classifier(folder, pooling="pooler")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value, pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    name = "encoder.layer.1.output.LayerNorm.weight"

    def broken(tensors):
        tensors[name][3] = value
        return tensors

    rewrite(folder, broken)
    assert f"1 tensors of {str(folder)!r} are not finite numbers (NaN or infinity), such as {name!r}" in complaint(
        folder
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER.encode(), "model.safetensors is a Git LFS pointer, not the file itself; run `git lfs pull`"),
        (b"", "model.safetensors is empty; download it again"),
        (b"<html>not found</html>", "model.safetensors is no safetensors file"),
        (0.01, "model.safetensors is cut short in its header"),
        (0.5, "model.safetensors is cut short: "),
    ],
)
def test_a_file_of_weights_that_is_not_whole_is_refused(content, message, pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * content)] if isinstance(content, float) else content)
    assert message in complaint(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_a_pointer_in_the_place_of_another_file_is_refused(name, pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    (folder / name).write_text(POINTER)
    assert f"{name} is a Git LFS pointer" in complaint(folder)


def test_an_adapter_is_no_model(pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "some/base"}')
    message = complaint(folder)
    assert "holds an adapter of 'some/base', not a whole model; merge the two with peft" in message
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    assert complaint(folder) == message


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq, 4 bits"),
        ({"quant_method": "awq", "bits": 4}, "awq, 4 bits"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes"),
        ({"load_in_4bit": True}, "bitsandbytes"),
    ],
)
def test_quantized_checkpoints_are_refused(facts, told, pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    configured(folder, quantization_config=facts)
    assert f"is quantized already ({told}); expected weights in float32" in complaint(folder)


def test_whole_numbers_in_the_file_are_quantized_weights(pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    name = "encoder.layer.0.output.dense.weight"
    rewrite(folder, lambda tensors: tensors | {name: tensors[name].to(torch.int8)})
    assert f"is quantized already: 1 weights are of I8, such as {name!r}" in complaint(folder)


def test_tokens_without_a_row_of_the_embedding_are_refused(pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    tokenizer = families.tokenizer("bert")
    rows = len(tokenizer)
    tokenizer.add_tokens(["<url>", "<user>"])
    tokenizer.save_pretrained(folder)
    message = complaint(folder)
    assert f"has {rows + 2} tokens, but its embedding has {rows}; " in message and "resize" in message


def test_images_without_a_prefix_are_the_same(tmp_path):
    folder = families.save_image_model("vit", tmp_path / "vit")
    digest = model.weights_digest(families.image_backbone(str(folder), size=None).module)
    renamed(folder, lambda name: f"module.{name}")
    assert model.weights_digest(families.image_backbone(str(folder), size=None).module) == digest
    renamed(folder, lambda name: name.replace("layer.1", "layer.one").replace("layers.1", "layers.one"))
    with pytest.raises(ModelError, match=r"does not fit: \d+ missing: "):
        families.image_backbone(str(folder), size=None)


@pytest.mark.parametrize(("reference", "folder_of"), [("bert", "text"), ("torchvision:mobilenet_v3_small", "image")])
@pytest.mark.parametrize("scale", [None, (40.0, 9.0)])
def test_a_checkpoint_is_compared_with_what_it_was_saved_from(reference, folder_of, scale, pretrained, tmp_path):
    settings = {} if scale is None else {"problem_type": "regression", "labels": ("value",), "target_scale": scale}
    if folder_of == "image":
        built, backbone = families.image_classifier(reference, **settings)
        sample = {name: tensor.numpy() for name, tensor in built.example(2).items()}
    else:
        built, backbone = families.classifier(pretrained(reference))
        if scale is not None:
            backbone = model.load_backbone(str(pretrained(reference)))
            built = model.build(
                backbone, task="text_regression", pooling="mean", max_length=24, dropout_prob=0.1,
                head_hidden_size=None, **settings,
            )  # fmt: skip
        sample = families.encoder(built, backbone, tmp_path / "inputs").encode(list(families.TEXTS))
    folder = tmp_path / "checkpoint"
    built.train()
    built.save(folder, backbone)
    model.check_saved(built, folder, sample)
    assert built.training
    first = next(n for n, p in built.named_parameters() if n.startswith("classifier") and n.endswith("bias"))
    with torch.no_grad():
        built.get_parameter(first)[0] += 50.0
    name = "classifier.bias"
    with pytest.raises(TrainError, match=rf"outputs differ by up to .* the first tensor that differs is '{name}'"):
        model.check_saved(built, folder, sample)
    with torch.no_grad():
        built.get_parameter(first)[0] = float("nan")
    with pytest.raises(TrainError, match="are not finite numbers"):
        model.check_saved(built, folder, sample)


def test_a_language_models_checkpoint_is_compared_too(pretrained, tmp_path):
    language = model.load_language(str(pretrained("gpt2")))
    model.save_language(language.module, tmp_path / "checkpoint", language.tokenizer)
    blocks = np.arange(16, dtype=np.int32).reshape(2, 8)
    model.check_saved_language(language.module, tmp_path / "checkpoint", blocks)
    with torch.no_grad():
        language.module.transformer.h[1].mlp.c_fc.weight[3] += 1.0
    with pytest.raises(TrainError, match=r"the first tensor that differs is 'transformer.h.1.mlp.c_fc.weight'"):
        model.check_saved_language(language.module, tmp_path / "checkpoint", blocks)


def test_weights_in_a_pickle_alone_are_refused(pretrained, tmp_path):
    folder = copied(pretrained, tmp_path)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    assert model.load_backbone(str(folder)).notes == ()
    (folder / "model.safetensors").unlink()
    assert "has its weights in 'pytorch_model.bin' alone, which can run code" in complaint(folder)


def test_a_token_that_transformers_adds_is_left_out_where_it_has_no_row(tmp_path):
    tokenizer = families.tokenizer("gpt2")
    facts = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    Qwen2Model(Qwen2Config(vocab_size=len(tokenizer), intermediate_size=16, **facts)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == len(tokenizer) + 1  # else there is nothing to leave out
    backbone = model.load_backbone(str(tmp_path))
    assert backbone.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert backbone.notes == (
        f"'<|endoftext|>' of transformers' tokenizer was left out, since {tmp_path} has no row for it",
    )
