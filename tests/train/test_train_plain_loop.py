"""The losses of training are those of the loop that one writes by hand, which makes each batch anew."""

import io

import families
import numpy as np
import pytest
import tiny_images
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import get_linear_schedule_with_warmup

from tledge import model, tasks, train
from tledge.batches import Beside
from tledge.errors import InputError
from tledge.progress import silent
from tledge.recipe.schema import Finetune
from tledge.train.order import epoch_order

BATCH, STEPS = 8, 20


def texts(count):
    """Texts of one word to hundreds, which are cut, in the middle of them an empty one."""
    rng = np.random.default_rng(3)
    lengths = np.clip(rng.geometric(0.08, count), 1, 400)
    made = [" ".join(rng.choice(families.GOOD + families.BAD + families.PLAIN, n)) for n in lengths]
    if count > 2:
        made[count // 2] = ""
    return made


def pictures(count):
    """Pictures of every mode and of many sizes, as files."""
    rng = np.random.default_rng(4)
    made = []
    for i in range(count):
        mode = ("RGB", "L", "RGBA", "P", "LA", "CMYK", "1", "I;16")[i % 8]
        size = (int(rng.integers(30, 90)), int(rng.integers(30, 90)))
        picture = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(size)
        if mode == "I;16":
            picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
        elif mode != "RGB":
            picture = picture.convert(mode)
        file = io.BytesIO()
        picture.save(file, "TIFF" if mode == "CMYK" else "PNG")
        made.append(file.getvalue())
    return made


def losses_of(net, rows, epochs, tmp_path):
    """The loss of each batch of a training by tledge."""
    seen = []

    def objective(outputs, labels, n_items):
        loss = F.cross_entropy(outputs["logits"], labels, reduction="sum") / (n_items or len(labels))
        if n_items is not None:
            seen.append(loss.item())
        return loss

    parameters = [each for each in net.parameters() if each.requires_grad]
    task = tasks.load("text_classification")
    train.fit(
        net,
        train.Sets(rows, rows),
        objective,
        train.Scoring(task.score, "accuracy", lower_is_better=False),
        train.Plan("full", "", tmp_path, [{"params": parameters, "lr": 1e-3, "weight_decay": 0.01}], epochs, 5),
        Finetune(batch_size=BATCH, report_to=[]),
        progress=silent,
    )
    return seen


def plain_losses(net, encoder, values, labels, lengths, epochs):
    """The same by hand: each batch is made of its values, padded to its longest."""
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.01)
    total = epochs * -(-len(values) // BATCH)
    schedule = get_linear_schedule_with_warmup(optimizer, -(-total // 10), total)
    seen = []
    net.train()
    for epoch in range(epochs):
        for rows in epoch_order(len(values), lengths, BATCH, seed=5, epoch=epoch):
            batch = {n: torch.from_numpy(a) for n, a in encoder.encode([values[i] for i in rows]).items()}
            loss = F.cross_entropy(net(**batch)["logits"], labels[rows])
            seen.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return seen


def drop_nothing(net):
    for layer in net.modules():
        for name in ("dropout", "attention_dropout", "dropout_prob", "p"):
            if isinstance(getattr(layer, name, None), float):
                setattr(layer, name, 0.0)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("count", [1000, 1, 2 * BATCH + 1])
def test_texts_of_very_different_lengths(count, family, pretrained, tmp_path):
    values = [each or "the" for each in texts(count)] if family == "gpt2" else texts(count)  # no token is refused there
    labels = torch.arange(count) % 2
    epochs = max(1, STEPS * BATCH // count)
    (ours, backbone), (theirs, _) = (families.classifier(pretrained(family)) for _ in range(2))
    for net in (ours, theirs):
        drop_nothing(net)
    encoder = families.encoder(ours, backbone, tmp_path / "inputs")
    read = model.read(encoder, values)
    rows = Beside(read, model.Rows(values, labels.numpy()).labels())
    got = losses_of(ours, rows, epochs, tmp_path)[:STEPS]
    expected = plain_losses(theirs, encoder, values, labels, read.lengths, epochs)[:STEPS]
    assert len(got) == min(STEPS, epochs * -(-count // BATCH))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_pictures_of_every_mode(tmp_path):
    values = pictures(33)
    labels = torch.arange(len(values)) % 3
    encoder = tiny_images.ENCODER
    rows = Beside(model.read(encoder, values, cache=tmp_path), model.Rows(values, labels.numpy()).labels())
    got = losses_of(tiny_images.network(), rows, 4, tmp_path)[:STEPS]
    expected = plain_losses(tiny_images.network(), encoder, values, labels, None, 4)[:STEPS]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_the_order_has_each_row_once_and_says_nothing_of_lengths():
    lengths = np.random.default_rng(0).integers(1, 500, 1003)
    first, again, next_one = (epoch_order(1003, lengths, 8, seed=1, epoch=epoch) for epoch in (0, 0, 1))
    for batches in (first, next_one):
        assert sorted(np.concatenate(batches).tolist()) == list(range(1003))
        assert [len(batch) for batch in batches] == [8] * 125 + [3]
        padding = sum(lengths[batch].max() * len(batch) for batch in batches) / lengths.sum()
        assert padding < 1.1
        means = np.array([lengths[batch].mean() for batch in batches[:-1]])
        assert abs(np.corrcoef(means, np.arange(125))[0, 1]) < 0.3
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, next_one, strict=True))
    plain = epoch_order(10, None, 4, seed=1, epoch=0)
    assert [len(batch) for batch in plain] == [4, 4, 2]


def test_texts_that_give_no_token_are_refused_before_training(pretrained, tmp_path):
    encoder = families.encoder(*families.classifier(pretrained("gpt2")), tmp_path)
    with pytest.raises(InputError, match=r"^the text '' is empty for this model's tokenizer"):
        model.read(encoder, ["the tea", ""])
