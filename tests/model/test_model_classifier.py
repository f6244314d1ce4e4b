import json
import shutil

import families
import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from tledge import model
from tledge.errors import ModelError
from tledge.model.classifier import pool

HIDDEN = torch.tensor([[[1.0, 10], [2, 20], [3, 30], [4, 40]], [[5.0, 50], [6, 60], [7, 70], [8, 80]]])
RIGHT = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
LEFT = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])


def tensors(encoder, texts):
    return {name: torch.from_numpy(array) for name, array in encoder.encode(list(texts)).items()}


@pytest.mark.parametrize(
    ("pooling", "mask", "expected"),
    [
        ("mean", RIGHT, [[2.5, 25], [5.5, 55]]),
        ("mean", LEFT, [[2.5, 25], [7.5, 75]]),
        ("cls", RIGHT, [[1, 10], [5, 50]]),
        ("cls", LEFT, [[1, 10], [7, 70]]),
        ("last", RIGHT, [[4, 40], [6, 60]]),
        ("last", LEFT, [[4, 40], [8, 80]]),
        ("last", torch.tensor([[1, 0, 0, 0], [0, 0, 0, 1]]), [[1, 10], [8, 80]]),
    ],
)
def test_pool_looks_at_tokens_alone(pooling, mask, expected):
    assert pool(HIDDEN, mask, pooling).tolist() == expected


def test_mean_of_a_row_without_tokens_is_finite():
    assert pool(HIDDEN, torch.zeros(2, 4, dtype=torch.int64), "mean").tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "pooler"])
@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_padded_row_has_the_features_it_has_alone(family, pooling, pretrained, tmp_path):
    if pooling == "pooler" and family in ("distilbert", "gpt2"):
        with pytest.raises(ModelError, match="has no pooler; expected one of mean, cls, last or auto"):
            families.classifier(pretrained(family), pooling=pooling)
        return
    built, backbone = families.classifier(pretrained(family), pooling=pooling)
    encoder = families.encoder(built, backbone, tmp_path)
    with torch.inference_mode():
        batch = built.features(**tensors(encoder, families.TEXTS))
        alone = torch.cat([built.features(**tensors(encoder, [text])) for text in families.TEXTS])
    torch.testing.assert_close(batch, alone, rtol=1e-4, atol=1e-5)
    assert batch.shape == (len(families.TEXTS), 32)
    assert batch.std(dim=0).max() > 0.01


def test_a_tokenizer_that_padded_on_the_left_pads_on_the_right(pretrained, tmp_path):
    built, backbone = families.classifier(pretrained("gpt2"))
    backbone.tokenizer.padding_side = "left"
    encoder = families.encoder(built, backbone, tmp_path)
    mask = encoder.encode(["the room is warm", "tea"])["attention_mask"]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("family", "pooling"), [("bert", "pooler"), ("roberta", "pooler"), ("distilbert", "mean"), ("gpt2", "last")]
)
def test_own_pooling_is_what_the_checkpoint_speaks_for(family, pooling, pretrained):
    assert model.load_backbone(str(pretrained(family))).pooling == pooling


def test_a_pooler_that_was_never_trained_is_not_taken(tmp_path):
    families.tokenizer("bert").save_pretrained(tmp_path)
    without = BertModel(families.module("bert").config, add_pooling_layer=False)
    without.save_pretrained(tmp_path)
    assert model.load_backbone(str(tmp_path)).pooling == "mean"


@pytest.mark.parametrize(
    ("declared", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "lasttoken", "include_prompt": True}, "last"),
        ({"pooling_mode": ["cls"]}, "cls"),
    ],
)
def test_a_sentence_transformers_setting_wins(declared, pooling, pretrained, tmp_path):
    folder = shutil.copytree(pretrained("bert"), tmp_path / "sentence")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(declared))
    assert model.load_backbone(str(folder)).pooling == pooling


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "mean \\+ max|max \\+ mean"),
        ({"pooling_mode_max_tokens": True}, "'max'"),
        ({"pooling_mode_new_tokens": True}, "'pooling_mode_new_tokens'"),
        ({"pooling_mode": "weightedmean"}, "'weightedmean'"),
        ({"pooling_mode": ["cls", "mean"]}, "'cls \\+ mean'"),
    ],
)
def test_a_pooling_that_is_not_known_is_refused_until_another_one_is_named(declared, told, pretrained, tmp_path):
    folder = shutil.copytree(pretrained("bert"), tmp_path / "sentence")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(declared))
    with pytest.raises(ModelError, match=rf"pools its tokens by .*{told}.*; set model.pooling to one of mean, cls, "):
        families.classifier(folder)
    assert families.classifier(folder, pooling="mean")[0].pooling == "mean"


def sentence_modules(*kinds):
    return json.dumps(
        [{"path": f"{i}_{kind}", "type": f"sentence_transformers.models.{kind}"} for i, kind in enumerate(kinds)]
    )


def test_what_sentence_transformers_does_besides_is_told(pretrained, tmp_path):
    folder = shutil.copytree(pretrained("bert"), tmp_path / "sentence")
    (folder / "modules.json").write_text(sentence_modules("Transformer", "Pooling", "Dense", "Normalize"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "query: ", "document": ""}}')
    backbone = model.load_backbone(str(folder))
    assert backbone.pooling == "cls"
    assert "the parts Dense, Normalize are left out" in backbone.unfollowed[0]
    assert "has prompts (query: 'query: ') that are not put before texts" in backbone.unfollowed[1]
    (folder / "modules.json").write_text(sentence_modules("Transformer", "Pooling", "Pooling"))
    with pytest.raises(ModelError, match="pools its tokens by '1_Pooling and then 2_Pooling'"):
        families.classifier(folder)


def test_the_pooling_of_the_old_layout_is_found_from_the_folder_inside(pretrained, tmp_path):
    shutil.copytree(pretrained("bert"), tmp_path / "0_Transformer")
    (tmp_path / "modules.json").write_text(sentence_modules("Transformer", "Pooling"))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert model.load_backbone(str(tmp_path / "0_Transformer")).pooling == "cls"
    with pytest.raises(
        ModelError, match=r"has no config.json; it is in sentence-transformers' old layout: name '.*0_Tr"
    ):
        model.load_backbone(str(tmp_path))


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_saved_classifier_comes_back_with_the_same_logits(family, pretrained, tmp_path):
    built, backbone = families.classifier(pretrained(family), head_hidden_size=8, dropout_prob=0.3)
    encoder = families.encoder(built, backbone, tmp_path / "tokenizer")
    built.save(tmp_path / "checkpoint", backbone)
    again = model.load(tmp_path / "checkpoint")
    with torch.inference_mode():
        feeds = tensors(encoder, families.TEXTS)
        assert torch.equal(built(**feeds)["logits"], again(**feeds)["logits"])
    assert not again.training
    assert again.dropout.p == 0.3
    assert (tmp_path / "checkpoint" / "tokenizer.json").exists()


def test_checkpoint_speaks_the_words_of_the_ecosystem(pretrained, tmp_path):
    built, backbone = families.classifier(pretrained("bert"), pooling="mean")
    built.save(tmp_path, backbone)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good"}
    assert config["label2id"] == {"bad": 0, "good": 1}
    assert config["problem_type"] == "single_label_classification"
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["tledge"]["pooling"] == "mean"
    tokenizer = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokenizer["model_max_length"] == 24
    assert tokenizer["model_input_names"] == ["input_ids", "token_type_ids", "attention_mask"]


def test_a_checkpoint_of_tokens_keeps_its_own_problem_type_where_no_reader_stumbles_over_it(pretrained, tmp_path):
    built = model.build(
        model.load_backbone(str(pretrained("bert"))), task="token_classification", labels=("O", "B-x", "I-x"),
        problem_type="token_classification", optimum_task="token-classification", pooling="none", max_length=24,
        windows={"stride": 6, "aggregation": "first"}, dropout_prob=0.1, head_hidden_size=None,
    )  # fmt: skip
    built.save(tmp_path, model.load_backbone(str(pretrained("bert"))))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.get("problem_type") is None  # transformers 4 refuses any but its three
    assert config["architectures"] == ["BertForTokenClassification"]
    other = model.load(tmp_path).another(str(pretrained("bert")))
    assert other.pooling == "none"
    assert other.config.tledge["problem_type"] == "token_classification"


def test_an_unused_pooler_is_not_kept(pretrained, tmp_path):
    built, backbone = families.classifier(pretrained("bert"), pooling="mean")
    assert not any("pooler" in name for name in built.state_dict())
    built.save(tmp_path, backbone)
    assert not any("pooler" in name for name in model.load(tmp_path).state_dict())


def test_padding_token_zero_is_a_padding_token(pretrained):
    backbone = model.load_backbone(str(pretrained("bert")))
    backbone.config.pad_token_id = None
    backbone.tokenizer.eos_token = "[SEP]"
    built = model.build(
        backbone, task="text_classification", problem_type="single_label_classification", labels=("a", "b"),
        pooling="mean", max_length=8, dropout_prob=0, head_hidden_size=None,
    )  # fmt: skip
    assert built.config.pad_token_id == 0


@pytest.mark.parametrize(("family", "longest"), [("bert", 64), ("distilbert", 64), ("gpt2", 64), ("roberta", 64)])
def test_the_longest_text_that_a_backbone_reads(family, longest, pretrained, tmp_path):
    built, backbone = families.classifier(pretrained(family), max_length=longest)
    encoder = families.encoder(built, backbone, tmp_path)
    feeds = tensors(encoder, ["tea " * 100])
    assert feeds["input_ids"].shape == (1, longest)
    with torch.inference_mode():
        assert built(**feeds)["logits"].isfinite().all()
    with pytest.raises(ModelError, match=rf"model.max_length: got {longest + 1}, but .* reads at most {longest} tok"):
        families.classifier(pretrained(family), max_length=longest + 1)


def test_frozen_parts_stay_in_eval_mode(pretrained):
    for family in families.FAMILIES:
        built, _ = families.classifier(pretrained(family), dropout_prob=0.1)
        model.freeze(built.backbone, "probe")
        built.train()
        assert built.dropout.training
        assert built.classifier.training
        assert not any(m.training for m in built.backbone.modules())
        model.freeze(built.backbone, "partial", 1)
        built.train()
        dropouts = [m.training for m in built.backbone.modules() if isinstance(m, torch.nn.Dropout)]
        assert set(dropouts) == {True, False}
        model.freeze(built.backbone, "full")
        built.train()
        assert all(m.training for m in built.modules())
        built.eval()
        assert not any(m.training for m in built.modules())


def test_a_frozen_backbone_gives_the_same_features_in_train_mode(pretrained, tmp_path):
    for family in families.FAMILIES:
        built, backbone = families.classifier(pretrained(family))
        feeds = tensors(families.encoder(built, backbone, tmp_path / family), families.TEXTS)
        model.freeze(built.backbone, "probe")
        with torch.no_grad():
            assert torch.equal(built.train().features(**feeds), built.eval().features(**feeds))


def test_gpt2_dropout_below_the_boundary_is_off(pretrained):
    built, _ = families.classifier(pretrained("gpt2"))
    model.freeze(built.backbone, "partial", 1)
    built.train()
    assert not built.backbone.drop.training
    assert built.backbone.h[2].attn.resid_dropout.training


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: None, "there is no folder"),
        (lambda f: f.mkdir(), "has no config.json; expected a Hugging Face model folder"),
        (lambda f: f.write_text("x"), "is a file; expected a folder with config.json"),
    ],
)
def test_a_place_without_a_backbone_is_named(make, message, tmp_path):
    make(tmp_path / "place")
    with pytest.raises(ModelError, match=message) as caught:
        model.load_backbone(str(tmp_path / "place"))
    assert "\n" not in str(caught.value)


def test_an_encoder_decoder_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ModelError, match=r"is an encoder-decoder \(t5\); expected an encoder or a decoder alone"):
        model.load_backbone(str(tmp_path))


def test_pickled_weights_are_refused(pretrained, tmp_path):
    folder = shutil.copytree(pretrained("bert"), tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save(families.module("bert").state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        model.load_backbone(str(folder))


def test_code_of_a_checkpoint_is_neither_run_nor_asked_about(pretrained, tmp_path):
    folder = shutil.copytree(pretrained("bert"), tmp_path / "remote")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "code.Own", "AutoModel": "code.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError, match=r"model\.backbone: cannot load") as caught:
        model.load_backbone(str(folder))
    assert "\n" not in str(caught.value)


def test_a_half_precision_checkpoint_is_loaded_in_float32(tmp_path):
    families.module("bert").half().save_pretrained(tmp_path / "half")
    families.tokenizer("bert").save_pretrained(tmp_path / "half")
    built, backbone = families.classifier(tmp_path / "half")
    built.save(tmp_path / "checkpoint", backbone)
    for each in (built, model.load(tmp_path / "checkpoint")):
        assert {p.dtype for p in each.parameters()} == {torch.float32}


def test_a_folder_that_is_no_checkpoint_is_refused(pretrained, tmp_path):
    with pytest.raises(ModelError, match="is not a checkpoint"):
        model.load(tmp_path)
    with pytest.raises(ModelError, match="has no 'tledge' entry"):
        model.load(pretrained("bert"))


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_weights_that_do_not_fit_are_refused(damage, pretrained, tmp_path):
    built, backbone = families.classifier(pretrained("bert"))
    built.save(tmp_path, backbone)
    weights = tmp_path / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        shutil.copy(pretrained("distilbert") / "model.safetensors", weights)
    with pytest.raises(ModelError, match=r"does not fit config\.json") as caught:
        model.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_digest_is_that_of_names_shapes_and_values():
    first, same, other = families.module("bert"), families.module("bert"), families.module("bert", seed=1)
    assert model.weights_digest(first) == model.weights_digest(same)
    assert model.weights_digest(first) != model.weights_digest(other)
    with torch.no_grad():
        next(same.parameters())[0, 0] += 1e-6
    assert model.weights_digest(first) != model.weights_digest(same)


def test_head_starts_small_and_the_same_for_the_same_seed(pretrained):
    heads = [families.classifier(pretrained("bert"), seed=seed)[0].classifier for seed in (3, 3, 4)]
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, heads[2].weight)
    assert np.abs(heads[0].weight.detach().numpy()).max() < 0.1
    assert BertConfig().num_labels == 2
