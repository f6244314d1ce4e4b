import os
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import families
import numpy as np
import pytest
import torch
from PIL import Image

from tledge import model
from tledge.batches import Augment, Views, tokenized
from tledge.errors import InputError, ModelError
from tledge.inputs.image import Facts, ImageInput
from tledge.model import boundary, features, image_features
from tledge.model.boundary import AboveBoundary
from tledge.model.pictures import Pictures
from tledge.progress import silent
from tledge.recipe.schema import Augmentation

ROWS = families.rows(70, seed=3)


@pytest.fixture
def made(pretrained, tmp_path):
    built, backbone = families.classifier(pretrained("bert"))
    return built, families.encoder(built, backbone, tmp_path / "tokenizer")


class Counted:
    """Runs a classifier's backbone and counts how often."""

    def __init__(self, built):
        self.built, self.calls = built, 0

    def __call__(self, tensors):
        self.calls += 1
        return self.built.features(**tensors)


def cached(compute, encoder, folder, *, texts=ROWS.values, identity="weights mean", per_token=False):
    tokens = tokenized(encoder, texts, progress=silent, description="")
    return features.cached(
        compute, tokens, texts, identity=f"{identity} {encoder.identity}", hidden_size=32, per_token=per_token,
        folder=folder, progress=silent, description="", device=torch.device("cpu"),
    )  # fmt: skip


def test_each_row_gets_the_features_it_has_alone(made, tmp_path):
    built, encoder = made
    found = cached(Counted(built), encoder, tmp_path / "cache")
    with torch.inference_mode():
        alone = [
            built.features(**{n: torch.from_numpy(a) for n, a in encoder.encode([text]).items()})
            for text in ROWS.values
        ]
    assert len(found) == len(ROWS.values)
    assert found.vectors.dtype == torch.float32
    np.testing.assert_allclose(found.vectors, torch.cat(alone).numpy(), rtol=1e-4, atol=1e-5)


def test_a_second_call_computes_nothing(made, tmp_path):
    built, encoder = made
    compute = Counted(built)
    first = cached(compute, encoder, tmp_path / "cache")
    calls = compute.calls
    again = cached(compute, encoder, tmp_path / "cache")
    assert compute.calls == calls > 0
    assert (first.reused, again.reused) == (False, True)
    assert first.key == again.key
    np.testing.assert_array_equal(first.vectors, again.vectors)


def test_whatever_features_depend_on_gives_another_key(made, pretrained, tmp_path):
    built, encoder = made
    compute = Counted(built)
    shorter, backbone = families.classifier(pretrained("bert"), max_length=10)
    other = families.encoder(shorter, backbone, tmp_path / "shorter")
    keys = [
        cached(compute, encoder, tmp_path / "cache").key,
        cached(compute, encoder, tmp_path / "cache", identity="other mean").key,
        cached(compute, encoder, tmp_path / "cache", identity="weights cls").key,
        cached(compute, encoder, tmp_path / "cache", texts=ROWS.values[:-1]).key,
        cached(compute, encoder, tmp_path / "cache", texts=[*ROWS.values[1:], ROWS.values[0]]).key,
        cached(compute, encoder, tmp_path / "cache", texts=[ROWS.values[0] + ROWS.values[1], "", *ROWS.values[2:]]).key,
        cached(compute, other, tmp_path / "cache").key,
    ]
    assert len(set(keys)) == len(keys)


def test_a_half_written_cache_is_not_used(made, tmp_path):
    built, encoder = made
    folder = tmp_path / "cache"

    def broken(tensors):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(broken, encoder, folder)
    assert list(folder.iterdir()) == []
    whole = cached(Counted(built), encoder, folder)
    (folder / whole.key / "features.json").unlink()
    np.save(folder / whole.key / "vectors.npy", np.zeros((1, 1)))
    compute = Counted(built)
    again = cached(compute, encoder, folder)
    assert compute.calls > 0
    assert again.vectors.shape == (70, 32)


def test_features_that_another_process_finished_first_are_taken(made, tmp_path, monkeypatch):
    built, encoder = made
    numbers = iter((1, 2))
    monkeypatch.setattr(features.os, "getpid", lambda: next(numbers))
    folder = tmp_path / "cache"

    class Raced(Counted):
        def __call__(self, tensors):
            if self.calls == 0:
                cached(Counted(self.built), encoder, folder)
            return super().__call__(tensors)

    found = cached(Raced(built), encoder, folder)
    assert [path.name for path in folder.iterdir()] == [found.key]
    assert found.vectors.shape == (70, 32)


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize("level", [1, 2, 3])
def test_cached_activations_give_the_same_logits(family, level, pretrained, tmp_path):
    built, backbone = families.classifier(pretrained(family))
    encoder = families.encoder(built, backbone, tmp_path)
    tensors = {n: torch.from_numpy(a) for n, a in encoder.encode(families.TEXTS).items()}
    _, blocks = boundary.block_list(built.backbone)
    before = list(blocks)
    with torch.inference_mode():
        expected = built(**tensors)["logits"]
        hidden = boundary.activations(built, level, tensors)
        above = AboveBoundary(built, level)
        torch.testing.assert_close(above(hidden, **tensors)["logits"], expected, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(above(torch.zeros_like(hidden), **tensors)["logits"], expected)
        assert not torch.allclose(above(hidden.flip(0), **tensors)["logits"], expected)
        replaced = list(blocks)
        above.restore()
        assert torch.equal(built(**tensors)["logits"], expected)
    assert list(blocks) == before
    assert [a is b for a, b in zip(before, replaced, strict=True)] == [i >= level for i in range(3)]


def test_frozen_blocks_are_neither_stored_nor_trained_above_the_boundary(pretrained):
    built, _ = families.classifier(pretrained("bert"))
    above = AboveBoundary(built, 2)
    names = [name for name, _ in above.named_parameters()]
    assert not any("layer.0." in name or "layer.1." in name for name in names)
    assert any("layer.2." in name for name in names)


def test_activations_are_kept_in_half_precision_one_vector_a_token(made, tmp_path):
    built, encoder = made
    compute = lambda tensors: boundary.activations(built, 2, tensors)  # noqa: E731
    found = cached(compute, encoder, tmp_path / "cache", per_token=True)
    lengths = [int(encoder.encode([text])["attention_mask"].sum()) for text in ROWS.values]
    assert found.vectors.dtype == torch.float16
    assert np.diff(found.offsets).tolist() == lengths
    tensors = {n: torch.from_numpy(a) for n, a in encoder.encode([ROWS.values[5]]).items()}
    with torch.inference_mode():
        alone = boundary.activations(built, 2, tensors)[0]
    own = found.vectors[found.offsets[5] : found.offsets[6]]
    np.testing.assert_allclose(own, alone.numpy(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("value", [1e5, -1e5, float("nan")])
def test_activations_beyond_half_precision_are_refused(value, made, tmp_path):
    _, encoder = made
    compute = lambda tensors: torch.full((*tensors["input_ids"].shape, 32), value)  # noqa: E731
    with pytest.raises(ModelError, match=r"do not fit float16, so they cannot be cached: set finetune\.cache: false"):
        cached(compute, encoder, tmp_path / "cache", per_token=True)
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_trains_below_a_boundary_is_noticed(pretrained):
    built, _ = families.classifier(pretrained("bert"))
    model.freeze(built.backbone, "partial", 1)
    assert not boundary.trains_below(built, 2)
    assert boundary.trains_below(built, 3)


def test_a_bias_that_all_blocks_share_is_not_cached_away():
    from transformers import MPNetConfig, MPNetModel

    config = MPNetConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=40,
    )  # fmt: skip
    built = model.TextClassifier(MPNetModel(config), config=config, pooling="mean", n_labels=2)
    plan = model.freeze(built.backbone, "partial", 1)
    assert plan.boundary == 2
    assert boundary.trains_below(built, 2)


@pytest.fixture
def photos(tmp_path):
    """Twelve photos of three kinds of value: bytes, files, and arrays."""
    rng = np.random.default_rng(0)
    values = []
    for i, array in enumerate(rng.integers(0, 256, (12, 20, 24, 3), dtype=np.uint8)):
        path = tmp_path / "photos" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(array).save(path)
        values.append([{"bytes": path.read_bytes(), "path": None}, {"bytes": None, "path": str(path)}, array][i % 3])
    return values


PIXELS = ImageInput(Facts((16, 16), 16, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))


CHANGES = Augment(Augmentation(color=0.5))


def halves(tensors):
    """Mean of the left and of the right half."""
    pixels = tensors["pixel_values"]
    return torch.stack([pixels[..., :8].mean((1, 2, 3)), pixels[..., 8:].mean((1, 2, 3))], 1)


def kept(
    values, folder, *, compute=halves, identity="weights", half=False, progress=silent, views=1, seed=0, **changes
):
    pictures = Pictures(values, PIXELS, **changes)
    return image_features.cached(
        compute, pictures, lambda: pictures, views=views, seed=seed, identity=identity, half=half, folder=folder,
        progress=progress, description="", device=torch.device("cpu"),
    )  # fmt: skip


def test_each_image_has_the_features_of_its_views(photos, tmp_path):
    found = kept(photos, tmp_path / "cache", augment=CHANGES, views=5, seed=3)
    assert found.vectors.shape == (12, 5, 2)
    assert found.vectors.dtype == torch.float32
    pictures = Pictures(photos, PIXELS, CHANGES)
    expected = halves(pictures.finish(pictures.views(range(12), 5, 3), 3))
    torch.testing.assert_close(found.vectors.flatten(0, 1), expected, rtol=1e-5, atol=1e-6)
    assert len(found.vectors[..., 0].unique()) > 50
    plain = kept(photos, tmp_path / "cache")
    expected = halves({"pixel_values": torch.from_numpy(PIXELS.encode(photos)["pixel_values"])})
    torch.testing.assert_close(plain.vectors[:, 0], expected, rtol=1e-5, atol=1e-6)


def test_features_of_images_that_are_kept_decoded_are_the_same(photos, tmp_path):
    decoded = Pictures(photos, PIXELS, CHANGES)
    stored = decoded.keep(tmp_path / "decoded", progress=silent, description="")
    first, second = (
        image_features.cached(
            halves, decoded, lambda each=each: each, views=3, seed=1, identity="weights", half=False,
            folder=tmp_path / str(number), progress=silent, description="", device=torch.device("cpu"),
        )
        for number, each in enumerate((decoded, stored))
    )  # fmt: skip
    assert first.key == second.key
    assert torch.equal(first.vectors, second.vectors)


def test_what_a_killed_process_left_is_deleted_when_it_is_old(photos, tmp_path):
    cache = tmp_path / "cache"
    old, new = cache / "a.1.partial", cache / "b.2.partial"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "vectors.npy").write_bytes(b"x")
    for path in (old / "vectors.npy", old):
        os.utime(path, (1, 1))
    kept(photos, cache)
    assert not old.exists()
    assert new.exists()


def test_a_batch_takes_one_view_of_each_row_as_its_seed_says(photos, tmp_path):
    found = kept(photos, tmp_path / "cache", augment=CHANGES, views=4)
    views = Views("features", found.vectors)
    first = [views.batch([7, 2, 2], seed)["features"] for seed in range(20)]
    assert all(torch.equal(views.batch([7, 2, 2], seed)["features"], each) for seed, each in enumerate(first))
    assert {each[0].numpy().tobytes() for each in first} == {view.numpy().tobytes() for view in found.vectors[7]}
    assert first[0].dtype == torch.float32
    single = kept(photos, tmp_path / "cache")
    assert torch.equal(Views("features", single.vectors).batch([3, 0])["features"], single.vectors[[3, 0], 0])


def test_activations_of_images_are_kept_in_half_precision(photos, tmp_path):
    found = kept(photos, tmp_path / "cache", compute=lambda x: x["pixel_values"][:, :, ::4, ::4], half=True)
    assert found.vectors.shape == (12, 1, 3, 4, 4)
    assert found.vectors.dtype == torch.float16
    assert Views("activations", found.vectors).batch([1, 5])["activations"].shape == (2, 3, 4, 4)
    with pytest.raises(ModelError, match=r"do not fit float16, so they cannot be cached: set finetune\.cache: false"):
        kept(photos, tmp_path / "cache", compute=lambda x: x["pixel_values"] * 1e6, half=True, identity="large")


def test_whatever_features_of_images_depend_on_gives_another_key(photos, tmp_path):
    folder, changed = tmp_path / "cache", {"augment": CHANGES, "views": 2}
    keys = [
        kept(photos, folder).key,
        kept(photos, folder, identity="other").key,
        kept(photos, folder, half=True).key,
        kept(photos[:-1], folder).key,
        kept([photos[3], *photos[1:]], folder).key,
        kept([photos[0], *photos[:-1]], folder).key,
        kept(photos, folder, **changed).key,
        kept(photos, folder, **changed, seed=1).key,
        kept(photos, folder, **(changed | {"augment": Augment(Augmentation(color=0.6))})).key,
        kept(photos, folder, **(changed | {"views": 3})).key,
    ]
    assert len(set(keys)) == len(keys)
    assert kept(photos, folder).reused
    assert kept(photos, folder, seed=9, views=1).reused


def test_a_file_that_was_written_anew_is_read_anew(photos, tmp_path):
    first = kept(photos, tmp_path / "cache")
    path = Path(photos[1]["path"])
    Image.new("RGB", (20, 20), "red").save(path)
    second = kept(photos, tmp_path / "cache")
    assert not second.reused
    assert first.key != second.key
    assert not np.allclose(first.vectors[1], second.vectors[1])
    assert torch.equal(first.vectors[2:], second.vectors[2:])


def test_nothing_is_decoded_to_find_features_again(photos, tmp_path, monkeypatch):
    kept(photos, tmp_path / "cache")
    monkeypatch.setattr(PIXELS.__class__, "decode", lambda *_: pytest.fail("decoded"))
    assert kept(photos, tmp_path / "cache").reused


def test_an_image_that_cannot_be_read_leaves_no_cache(photos, tmp_path):
    photos[8] = {"bytes": b"no image", "path": "broken.png"}
    with pytest.raises(InputError, match=r"broken\.png"):
        kept(photos, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_features_that_do_not_fit_on_the_disk_are_refused(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(
        ModelError, match=r"12 images in 3 views take 0\.0 GB, .* 0\.0 GB free; set finetune\.cache: fa"
    ):
        kept(photos, tmp_path / "cache", augment=CHANGES, views=3)


def test_progress_counts_images(photos, tmp_path):
    heard = []

    @contextmanager
    def progress(description, total):
        heard.append(total)
        yield heard.append

    kept(photos, tmp_path / "cache", progress=progress, augment=CHANGES, views=4)
    assert heard == [12, *[2] * 6]
