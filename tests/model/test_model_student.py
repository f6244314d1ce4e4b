"""Students made of a teacher's blocks and in other shapes: what they compute, and that nothing is shared."""

from types import SimpleNamespace

import families
import pytest
import tiny_language
import torch
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    ModernBertConfig,
    Qwen3Config,
    SmolLM3Config,
)

from tledge import model
from tledge.errors import ModelError
from tledge.model import student
from tledge.model.classifier import TextClassifier
from tledge.recipe.distillation import Shape, StudentBudget

SMALL = {
    "vocab_size": 97, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "num_hidden_layers": 4,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip
BUDGET = StudentBudget(size_mb=1)


@pytest.fixture(scope="module")
def teachers(pretrained):
    """`teachers("bert")` is a classifier of three blocks, its backbone's files and two padded texts."""
    made = {}

    def teacher(family):
        if family not in made:
            built, backbone = families.classifier(pretrained(family), head_hidden_size=8)
            encoded = backbone.tokenizer(list(families.TEXTS[:1]), return_tensors="pt")
            ids = torch.cat([encoded["input_ids"], encoded["input_ids"].flip(1)])
            mask = torch.ones_like(ids)
            mask[1, -1] = 0
            made[family] = built, backbone, {"input_ids": ids, "attention_mask": mask}
        return made[family]

    return teacher


def language_teacher(kind, n_layers=4):
    return tiny_language.MODELS[kind](**{"n_layer" if kind == "gpt2" else "num_hidden_layers": n_layers})


def prompt(batch=2, length=7):
    return torch.randint(1, 320, (batch, length), generator=torch.Generator().manual_seed(3))


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("layers", "n_layers", "chosen"),
    [
        (None, 6, (0, 2, 4)),
        ("every_second", 5, (0, 2, 4)),
        ("every_second", 2, (0,)),
        ("first_and_last", 6, (0, 5)),
        ([1, 4], 6, (1, 4)),
        ([0, 1, 2], 3, (0, 1, 2)),
        ([0], 1, (0,)),
    ],
)
def test_layers_are_chosen_by_name_or_number(layers, n_layers, chosen):
    assert student.choose_layers(layers, n_layers) == chosen


@pytest.mark.parametrize(
    ("layers", "n_layers", "message"),
    [
        ([7], 6, "distill.student.layers: got 7, but the teacher has 6 blocks: 0 to 5;"),
        ([-1, 0], 6, "got -1, but the teacher has 6 blocks"),
        ([0, 1], 1, "got 1, but the teacher has 1 block: 0"),
        ([2, 0], 6, r"got \[2, 0\]; expected the blocks to keep, each once and in rising order"),
        ([], 6, r"got \[\]; expected"),
        (None, 1, "the teacher has one block alone"),
        ("first_and_last", 1, "the teacher has one block alone"),
        ("first_and_last", 2, "keeps both of the teacher's 2 blocks; use every_second"),
        ("last", 6, "got 'last'; expected every_second, first_and_last or a list"),
    ],
)
def test_layers_that_make_no_student_are_refused(layers, n_layers, message):
    with pytest.raises(ModelError, match=message):
        student.choose_layers(layers, n_layers)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_student_of_all_blocks_computes_what_the_teacher_does(family, teachers):
    teacher, _, feeds = teachers(family)
    made = student.from_layers(teacher, [0, 1, 2])
    assert type(made.backbone) is type(teacher.backbone)
    with torch.inference_mode():
        assert torch.equal(made(**feeds)["logits"], teacher(**feeds)["logits"])


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_student_computes_what_its_blocks_do(family, teachers):
    """Against the teacher itself with the hidden states led past its middle block."""
    teacher, _, feeds = teachers(family)
    made = student.from_layers(teacher, [0, 2])

    def past(block, inputs, output):
        return (inputs[0], *output[1:]) if isinstance(output, tuple) else inputs[0]

    with torch.inference_mode():
        whole = teacher(**feeds)["logits"]
        handle = teacher.blocks()[1].modules[0].register_forward_hook(past)
        try:
            expected = teacher(**feeds)["logits"]
        finally:
            handle.remove()
        found = made(**feeds)["logits"]
    assert torch.equal(found, expected)
    assert not torch.allclose(found, whole)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_saved_student_comes_back_with_the_same_logits(family, teachers, tmp_path):
    teacher, backbone, feeds = teachers(family)
    for made in (student.from_layers(teacher, [2]), student.of_shape(teacher, Shape(hidden_size=16, n_layers=2), 0)):
        made.save(tmp_path, backbone)
        again = model.load(tmp_path)
        assert len(again.blocks()) == len(made.blocks()) < 3
        assert list(again.config.id2label.values()) == list(families.LABELS)
        with torch.inference_mode():
            assert torch.equal(again(**feeds)["logits"], made(**feeds)["logits"])


def test_a_pooler_and_a_scaled_head_are_copied(pretrained):
    backbone = model.load_backbone(str(pretrained("bert")))
    teacher = model.build(
        backbone, task="text_regression", problem_type="regression", labels=("number",), pooling="pooler",
        max_length=8, dropout_prob=0, head_hidden_size=None, target_scale=(100.0, 5.0),
    )  # fmt: skip
    made = student.from_layers(teacher, [0])
    assert same(made.backbone.pooler.parameters(), teacher.backbone.pooler.parameters())
    assert same(made.classifier.buffers(), teacher.classifier.buffers())
    assert same(made.classifier.parameters(), teacher.classifier.parameters())


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_student_shares_no_memory_with_its_teacher(family, teachers):
    teacher = teachers(family)[0]
    model.freeze(teacher.backbone, "probe")
    before = model.weights_digest(teacher), [p.requires_grad for p in teacher.parameters()]
    state = torch.random.get_rng_state()
    made = student.from_layers(teacher, [0, 2])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not made.training
    assert all(p.requires_grad for p in made.parameters())
    assert {p.data_ptr() for p in made.parameters()}.isdisjoint({p.data_ptr() for p in teacher.parameters()})
    with torch.no_grad():
        for tensor in made.state_dict().values():
            tensor.add_(1) if tensor.is_floating_point() else None
    made.config.id2label[0] = "another"
    assert (model.weights_digest(teacher), [p.requires_grad for p in teacher.parameters()]) == before
    assert teacher.config.id2label[0] == families.LABELS[0]
    model.freeze(teacher.backbone, "full")


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_cut_language_model_generates_the_same_with_its_cache(kind):
    teacher = language_teacher(kind)
    made = student.from_layers(teacher, [0, 3])
    settings = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with torch.inference_mode():
        mask = torch.ones_like(prompt())
        cached, plain = (
            made.generate(prompt(), attention_mask=mask, use_cache=use_cache, **settings) for use_cache in (True, False)
        )
        whole = teacher.generate(prompt(), attention_mask=mask, **settings)
    assert torch.equal(cached, plain)
    assert cached.shape == (2, 19)
    assert not torch.equal(cached, whole)
    assert made.generation_config.to_dict() == teacher.generation_config.to_dict()
    if kind == "gpt2":
        assert made.lm_head.weight is made.transformer.wte.weight, "embeddings that were tied still are"


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_language_model_of_all_blocks_gives_the_same_logits(kind, tmp_path):
    teacher = language_teacher(kind)
    made = student.from_layers(teacher, range(4))
    with torch.inference_mode():
        assert torch.equal(made(prompt()).logits, teacher(prompt()).logits)
        cut = student.from_layers(teacher, [1, 2])
        cut.save_pretrained(tmp_path)
        again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        assert torch.equal(again(prompt()).logits, cut(prompt()).logits)


def test_lists_with_one_entry_a_layer_are_cut_alike():
    torch.manual_seed(0)
    config = SmolLM3Config(**(SMALL | {"eos_token_id": [0, 1, 2, 3]}), num_key_value_heads=2)
    config.no_rope_layers = [1, 0, 1, 0]
    teacher = AutoModelForCausalLM.from_config(config).eval()
    made = student.from_layers(teacher, [0, 1, 3])
    assert made.config.no_rope_layers == [1, 0, 0]
    assert made.config.eos_token_id == [0, 1, 2, 3]
    assert [layer.self_attn.use_rope for layer in made.model.layers] == [1, 0, 0]
    assert len(teacher.config.no_rope_layers) == 4


def classifier_of(config):
    """A classifier of two labels with random weights, of any architecture of transformers."""
    torch.manual_seed(0)
    config.tledge = {"pooling": "mean", "head": {"dropout_prob": 0.0, "hidden_size": None}}
    return TextClassifier(AutoModel.from_config(config), config=config, pooling="mean", n_labels=2).eval()


def test_blocks_that_cannot_change_their_places_are_refused():
    teacher = classifier_of(ModernBertConfig(**SMALL, cls_token_id=1, sep_token_id=2))
    with pytest.raises(ModelError, match=r"the blocks of 'modernbert' differ by their places.*keep block 0"):
        student.from_layers(teacher, [1, 3])
    layers = [plan.layers for plan in student.candidates(teacher, BUDGET) if plan.layers is not None]
    assert layers == [(0, 2, 3), (0, 3)], "block 3 alone cannot be the first"
    scaled = GPT2LMHeadModel(GPT2Config(n_layer=3, n_embd=32, n_head=2, scale_attn_by_inverse_layer_idx=True))
    with pytest.raises(ModelError, match="scale_attn_by_inverse_layer_idx"):
        student.from_layers(scaled, [0, 2])


def test_layers_that_share_their_weights_are_refused():
    teacher = classifier_of(AlbertConfig(**SMALL, embedding_size=16))
    with pytest.raises(ModelError, match="'albert' runs 4 layers with 1 set of weights"):
        student.from_layers(teacher, [0, 2])
    assert all(plan.shape is not None for plan in student.candidates(teacher, BUDGET))


def test_students_by_layers_are_not_of_images():
    teacher, _ = families.image_classifier()
    for make in (lambda: student.from_layers(teacher, [0]), lambda: student.of_shape(teacher, Shape(n_layers=1), 0)):
        with pytest.raises(ModelError, match=r"for transformers of texts.*distill\.student\.backbone"):
            make()


@pytest.mark.parametrize(
    ("kind", "shape", "sizes"),
    [
        ("gpt2", {"n_layers": 1, "hidden_size": 16}, {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_inner": None}),
        ("gpt2", {"intermediate_size": 40}, {"n_embd": 32, "n_inner": 40}),
        (
            "llama",
            {"hidden_size": 64, "n_heads": 4, "n_layers": 6},
            {"intermediate_size": 96, "num_key_value_heads": 2, "head_dim": 16, "num_hidden_layers": 6},
        ),
        ("llama", {"n_heads": 1}, {"num_key_value_heads": 1, "head_dim": 32, "hidden_size": 32}),
    ],
)
def test_a_shape_changes_the_sizes_that_belong_together(kind, shape, sizes):
    made = student.of_shape(language_teacher(kind), Shape(**shape), 0)
    assert {name: getattr(made.config, name) for name in sizes} == sizes
    with torch.inference_mode():
        assert made(prompt()).logits.shape == (2, 7, 320)


def test_a_head_that_is_wider_than_its_share_keeps_its_width():
    torch.manual_seed(0)
    teacher = AutoModelForCausalLM.from_config(Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=24))
    made = student.of_shape(teacher, Shape(hidden_size=20, n_heads=3), 0)
    assert (made.config.head_dim, made.config.num_key_value_heads) == (24, 1)
    with torch.inference_mode():
        assert made(prompt() % 97).logits.isfinite().all()


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_shaped_classifier_has_labels_and_head_of_its_teacher(family, teachers):
    teacher, _, feeds = teachers(family)
    shape = Shape(hidden_size=16, n_layers=2)
    first, again, other = (student.of_shape(teacher, shape, seed) for seed in (1, 1, 2))
    assert model.weights_digest(first) == model.weights_digest(again) != model.weights_digest(other)
    assert first.config.id2label == teacher.config.id2label
    assert first.classifier[0].in_features == first.n_features == 16
    assert first.classifier[0].out_features == teacher.classifier[0].out_features
    assert len(first.blocks()) == 2
    with torch.inference_mode():
        assert first(**feeds)["logits"].shape == (2, 2)


def test_shapes_that_cannot_be_are_refused(teachers):
    teacher = teachers("bert")[0]
    with pytest.raises(ModelError, match=r"hidden_size 30 cannot be divided among 4 heads; .* such as 3"):
        student.of_shape(teacher, Shape(hidden_size=30, n_heads=4), 0)
    with pytest.raises(ModelError, match=r"hidden_size 15 cannot be divided among 2 heads; .* such as 1"):
        student.of_shape(teacher, Shape(hidden_size=15), 0)


@pytest.mark.parametrize(
    ("n_student", "n_teacher", "layers", "expected"),
    [
        (3, 6, None, (1, 3, 5)),
        (3, 6, (0, 2, 4), (0, 2, 4)),
        (2, 5, None, (2, 4)),
        (1, 4, None, (3,)),
        (4, 2, None, (0, 0, 1, 1)),
        (3, 3, None, (0, 1, 2)),
    ],
)
def test_each_block_learns_from_its_own_or_an_evenly_spaced_one(n_student, n_teacher, layers, expected):
    assert student.default_layer_map(n_student, n_teacher, layers) == expected
    assert student.layer_map(None, n_student, n_teacher, layers) == expected


@pytest.mark.parametrize(
    ("layer_map", "message"),
    [
        ([1], r"distill.layer_map: got 1 number, but the student has 2 blocks; .* 0 to 5"),
        ([1, 6], r"distill.layer_map: got 6, but the teacher has 6 blocks: 0 to 5"),
    ],
)
def test_a_layer_map_that_does_not_fit_is_refused(layer_map, message):
    assert student.check_layer_map([5, 0], 2, 6) == (5, 0)
    with pytest.raises(ModelError, match=message):
        student.layer_map(layer_map, 2, 6, (0, 1))


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_candidates_are_cut_and_thinner_and_counted_before_they_are_made(kind, teachers):
    teacher = teachers("bert")[0] if kind == "bert" else language_teacher("llama", n_layers=3)
    plans = student.candidates(teacher, BUDGET)
    assert [plan.parameters for plan in plans] == sorted((plan.parameters for plan in plans), reverse=True)
    assert [plan.layers for plan in plans if plan.layers] == [(0, 2), (2,)]
    assert [(p.shape.hidden_size, p.shape.n_layers) for p in plans if p.shape] == [(16, 3), (16, 1)]
    assert len({plan.name for plan in plans}) == len(plans) == 4
    for plan in plans:
        made = plan.make()
        assert student.describe(made).parameters == plan.parameters < student.describe(teacher).parameters
        assert made is not plan.make()


def test_of_a_deep_teacher_some_numbers_of_layers_are_tried():
    teacher = language_teacher("gpt2", n_layers=30)
    counts = [len(plan.layers) for plan in student.candidates(teacher, BUDGET) if plan.layers]
    assert len(counts) == 12
    assert (counts[0], counts[-1]) == (29, 1)
    assert all(plan.layers[-1] == 29 for plan in student.candidates(teacher, BUDGET) if plan.layers)


def test_candidates_of_images_are_small_networks():
    teacher, _ = families.image_classifier(labels=("a", "b", "c"))
    names = ["torchvision:shufflenet_v2_x0_5", "torchvision:squeezenet1_1", "torchvision:mobilenet_v3_small"]
    size = SimpleNamespace(size=64, resize=None, interpolation=None, mean=None, std=None)
    plans = student.candidates(teacher, StudentBudget(size_mb=1, backbones=names), preprocessing=size)
    assert [plan.backbone for plan in plans] == [names[2], names[1], names[0]]
    made = plans[-1].make()
    assert student.describe(made).parameters == plans[-1].parameters
    with torch.inference_mode():
        found = made(**made.example(4))["logits"]
    assert found.shape == (4, 3)
    assert 1e-6 < found.std() < 1e3


def test_candidates_of_texts_may_be_backbones(pretrained, teachers):
    names = [str(pretrained(family)) for family in ("distilbert", "gpt2")]
    plans = student.candidates(teachers("bert")[0], StudentBudget(size_mb=1, backbones=names))
    assert {type(plan.make().backbone).__name__ for plan in plans} == {"DistilBertModel", "GPT2Model"}


def test_a_size_is_that_of_the_stored_weights(teachers, tmp_path):
    teacher, backbone, _ = teachers("bert")
    teacher.save(tmp_path, backbone)
    found = student.describe(teacher)
    stored = (tmp_path / "model.safetensors").stat().st_size
    assert found.size_bytes == 4 * found.parameters
    assert 0 < stored - found.size_bytes < 16_000, "the file has a header too"
