"""A model of images and texts as a zero-shot classifier of images: one tower ships, and the texts' is the head."""

from __future__ import annotations

import json
from types import SimpleNamespace

import families
import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from tledge import bundle, inputs, model, pipeline
from tledge.artifacts import read_json
from tledge.errors import ModelError
from tledge.recipe import load_recipe
from tledge.runtime import open_session, session_run
from tledge.stages.relabel import relabel
from tledge.train import closed

LABELS = {"red": ["warm light"], "blue": ["cold room", "dull"]}
TEMPLATES = ["{}", "a {}"]
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
RECIPE = """\
name: photos
task: image_classification
data:
  train: photos
  validation: 0.3
  test: 0.3
  labels: {red: warm light, blue: [cold room, dull]}
model: {backbone: ./BACKBONE}
finetune: {strategy: zero_shot, zero_shot: {templates: ["{}", "a {}"]}}
quantize: {schemes: []}
"""


def save(kind, folder):
    """A folder of a tiny random model of images and texts."""
    tokenizer = families.tokenizer("bert")
    text = SIZES | {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": tokenizer.sep_token_id,
                    "bos_token_id": tokenizer.cls_token_id, "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    image = SIZES | {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    if kind == "clip":
        made = CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=24))
    else:
        made = SiglipModel(SiglipConfig(text_config=text, vision_config=image))
    made.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor = {"image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": 32},
                 "resample": 3, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}, "do_normalize": True,
                 "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return made, tokenizer


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_both_towers_give_what_transformers_gives(kind, tmp_path):
    whole, tokenizer = save(kind, tmp_path / "both")
    backbone = model.load_backbone(str(tmp_path / "both"), kind="image")
    settings = {"task": "image_classification", "problem_type": "single_label_classification", "dropout_prob": 0.0}
    built = model.build(backbone, labels=("a", "b"), head_hidden_size=None, head_normalize=True, **settings)
    pixels = built.example(3)["pixel_values"]
    texts = ["warm light", "a cold and dull room"]
    fixed = {"padding": "max_length", "max_length": 16} if kind == "siglip" else {"padding": True}
    tokens = tokenizer(texts, return_tensors="pt", **fixed)
    given = {name: tokens[name] for name in ("input_ids", "attention_mask")[: 1 if kind == "siglip" else 2]}
    with torch.no_grad():
        theirs = whole(pixel_values=pixels, **given)
        ours = closed.unit(built.features(pixels).numpy())
    np.testing.assert_allclose(ours, closed.unit(theirs.image_embeds.numpy()), atol=1e-6)
    found = closed.unit(model.text_vectors(str(tmp_path / "both"), texts))
    np.testing.assert_allclose(found, closed.unit(theirs.text_embeds.numpy()), atol=1e-6)
    assert model.load_backbone(str(tmp_path / "both"), kind="image").n_features == ours.shape[1]
    built.save(tmp_path / "checkpoint", backbone)
    again = model.load(tmp_path / "checkpoint")
    with torch.no_grad():
        torch.testing.assert_close(again(pixels)["logits"], built.eval()(pixels)["logits"])


@pytest.fixture(scope="module", params=["clip", "siglip"])
def made(request, feature_cache, tmp_path_factory):
    """A zero-shot run on tiny photos, up to its bundle, and the model that it is made of."""
    home = tmp_path_factory.mktemp(request.param)
    whole, tokenizer = save(request.param, home / "both")
    rng = np.random.default_rng(0)
    for name, channel in (("red", 0), ("blue", 2)):
        (home / "photos" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 120, (40, 36, 3), dtype=np.uint8)
            pixels[..., channel] = 255 - i
            Image.fromarray(pixels).save(home / "photos" / name / f"{i}.png")
    (home / "recipe.yaml").write_text(RECIPE.replace("BACKBONE", "both"))
    pipeline.run(load_recipe(home / "recipe.yaml"), home / "run", until="bundle")
    return SimpleNamespace(home=home, bundle=home / "run" / "bundle", whole=whole, tokenizer=tokenizer)


def two_towers(made, values, labels):
    """The cosines of images to the mean vectors of descriptions, by transformers' own model, `(images, labels)`."""
    encoder = inputs.load("image", made.bundle)
    pixels = torch.from_numpy(encoder.encode(values)["pixel_values"])
    fixed = (
        {"padding": "max_length", "max_length": 16} if "siglip" in made.whole.config.model_type else {"padding": True}
    )
    means = []
    with torch.no_grad():
        for texts in labels.values():
            said = [template.format(text) for text in texts for template in TEMPLATES]
            tokens = made.tokenizer(said, return_tensors="pt", **fixed)
            given = {"input_ids": tokens["input_ids"]}
            given |= {} if len(fixed) > 1 else {"attention_mask": tokens["attention_mask"]}
            out = made.whole(pixel_values=pixels, **given)
            means.append(closed.unit(out.text_embeds.numpy()).mean(0))
        images = closed.unit(out.image_embeds.numpy())
    return images @ closed.unit(np.stack(means)).T


def cosines(folder, values):
    run = session_run(open_session(folder / "onnx" / "model.onnx"))
    scale = read_json(folder / "config.json")["tledge"]["zero_shot"]["scale"]
    return run(inputs.load("image", folder).encode(values))["logits"] / scale


def photos(made):
    return [Image.open(made.home / "photos" / name / f"{i}.png") for name in ("red", "blue") for i in range(3)]


@pytest.mark.slow
def test_the_graph_gives_what_two_towers_give_and_holds_one(made):
    values = photos(made)
    np.testing.assert_allclose(cosines(made.bundle, values), two_towers(made, values, LABELS), atol=1e-6)
    names = [tensor.name for tensor in onnx.load(made.bundle / "onnx" / "model.onnx").graph.initializer]
    assert not [name for name in names if "text" in name or "token_embedding" in name or "logit_scale" in name]


@pytest.mark.slow
def test_other_labels_are_read_by_the_tower_of_texts(made, tmp_path):
    described = {"calm": ["lovely garden"], "noisy": ["awful"], "stale": ["stale tea"]}
    relabel(made.bundle, described, tmp_path / "new", backbone=str(made.home / "both"))
    values = photos(made)
    np.testing.assert_allclose(cosines(tmp_path / "new", values), two_towers(made, values, described), atol=1e-6)
    assert bundle.load(tmp_path / "new").labels == ("calm", "noisy", "stale")


def test_a_backbone_that_reads_no_texts_beside_images_is_refused(tmp_path):
    families.save_image_model("vit", tmp_path)
    with pytest.raises(ModelError, match="is a 'vit', which reads no texts beside images"):
        model.text_vectors(str(tmp_path), ["a"])
