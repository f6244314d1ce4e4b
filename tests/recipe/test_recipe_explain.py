"""Each mistake in a recipe, and the exact line that the user reads."""

from __future__ import annotations

import pytest

from tledge.errors import RecipeError
from tledge.recipe import keys, load_recipe

FINETUNE_KEYS = (
    "augmentation, batch_size, cache, class_weights, compile, early_stopping_patience, epochs, few_shot, freeze, "
    "gradient_accumulation_steps, head_learning_rate, label_smoothing, layer_decay, learning_rate, lora, loss, "
    "max_grad_norm, optimizer, precision, probe_epochs, report_to, schedule, score_range, strategy, tagged_tokens, "
    "tf32, unfreeze, warmup_ratio, weight_decay, workers, "
    "zero_shot"
)
TOP_KEYS = (
    "adapt, baseline, bench, budget, bundle, data, distill, export, finetune, metric, model, name, quantize, seed, task"
)


def complaint(path: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        load_recipe(path, overrides)
    return str(error.value)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            "finetune:\n  epoch: 3",
            f"8: finetune.epoch: unknown key; known keys are {FINETUNE_KEYS}; did you mean 'epochs'?",
        ),
        ("epochs: 3", f"7: epochs: unknown key; known keys are {TOP_KEYS}; did you mean 'finetune.epochs'?"),
        ("zzz: 3", f"7: zzz: unknown key; known keys are {TOP_KEYS}"),
        (
            "finetune:\n  epochs: many",
            "8: finetune.epochs: expected a number above 0, or null, got 'many' (text)",
        ),
        (
            "finetune:\n  epochs: '5'",
            "8: finetune.epochs: expected a number above 0, or null, got '5' (text); remove the quotes",
        ),
        ("finetune:\n  epochs: 0", "8: finetune.epochs: expected a number above 0, or null, got 0"),
        ("finetune:\n  epochs: .inf", "8: finetune.epochs: expected a number above 0, or null, got .inf"),
        (
            "finetune:\n  batch_size: 1.5",
            "8: finetune.batch_size: expected a whole number of 1 or more, got 1.5",
        ),
        (
            "finetune:\n  batch_size: true",
            "8: finetune.batch_size: expected a whole number of 1 or more, got true",
        ),
        (
            "finetune:\n  cache: yes",
            "8: finetune.cache: expected true or false, got 'yes' (text); write true",
        ),
        (
            "finetune:\n  cache: Off",
            "8: finetune.cache: expected true or false, got 'Off' (text); write false",
        ),
        ("finetune:\n  optimizer: 3", "8: finetune.optimizer: expected text, got 3; write it in quotes: '3'"),
        ("finetune:\n  optimizer:", "8: finetune.optimizer: expected text, got null"),
        (
            "finetune:\n  strategy: Probe",
            "8: finetune.strategy: expected one of probe, partial, full, probe_then_full, gradual, lora, few_shot, "
            "zero_shot, none, got 'Probe' (text); "
            "did you mean 'probe'?",
        ),
        ("finetune: 3", f"7: finetune: expected a section of keys ({FINETUNE_KEYS}), got 3"),
        (
            "finetune:\n  class_weights: balance",
            "8: finetune.class_weights: expected 'balanced', a mapping of names, each to a "
            "number above 0, or null, "
            "got 'balance' (text); did you mean 'balanced'?",
        ),
        (
            "finetune:\n  class_weights:\n    bad: much",
            "9: finetune.class_weights.bad: expected a number above 0, got 'much' (text)",
        ),
        (
            "finetune:\n  class_weights: {}\n  report_to: wandb",
            "9: finetune.report_to: expected a list, each item text, got 'wandb' (text); write [wandb]",
        ),
        (
            "bench:\n  batch: 1",
            "8: bench.batch: expected a list of at least one, each item a whole number of 1 or more, got 1; write [1]",
        ),
        (
            "bench:\n  batch: []",
            "8: bench.batch: expected a list of at least one, each item a whole number of 1 or more, got an empty list",
        ),
        (
            "bench:\n  batch:\n    - 1\n    - 0",
            "10: bench.batch.1: expected a whole number of 1 or more, got 0",
        ),
        ("bench:\n  percentile: 92", "8: bench.percentile: expected one of 50, 90, 95, 97, 99, got 92"),
        (
            "budget:\n  max_metric_drop: 1",
            "8: budget.max_metric_drop: expected a number of 0 or more and below 1, got 1",
        ),
        (
            "finetune:\n  strategy: partial",
            "7: finetune.unfreeze: missing key; strategy 'partial' needs the number of last "
            "blocks to train, the first one's name or a glob pattern of parameter names (or finetune.freeze: what "
            "stays frozen)",
        ),
        (
            "finetune:\n  unfreeze: 2",
            "8: finetune.unfreeze: only for strategy 'partial' or 'gradual', but the strategy is 'probe'; "
            "remove the key (or set it "
            "to null), or change finetune.strategy",
        ),
        (
            "quantize:\n  schemes: fp16",
            "8: quantize.schemes: expected a list, each item text, or null, got 'fp16' (text); write [fp16]",
        ),
        (
            "quantize:\n  schemes: 3",
            "8: quantize.schemes: expected a list, each item text, or null, got 3; write [3]",
        ),
        (
            "quantize:\n  - fp16",
            "7: quantize: expected a section of keys (int8_static, overflow_fix, schemes), got a list",
        ),
        ("quantize:\n  schemes: [fp16, fp16]", "8: quantize.schemes: 'fp16' is there twice; name it once"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(write, more: str, line: str) -> None:
    assert complaint(write(more)) == f"recipe.yaml:{line}"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            "  validation: 1.5\n",
            "5: data.validation: expected text, a number above 0 and below 1, or a whole number of 1 or more, got 1.5",
        ),
        (
            "  test: [a]\n",
            "5: data.test: expected text, a number above 0 and below 1, or a whole number of 1 or more, got a list",
        ),
        ("  labels: [no, 1]\n", "5: data.labels.1: expected text, got 1; write it in quotes: '1'"),
        ("  labels: {a: 1}\n", "5: data.labels.a: expected text, or a list, each item text, got 1"),
        (
            "  labels: {a: [b, 2]}\n",
            "5: data.labels.a: expected text, or a list, each item text, got a list",
        ),
        ("  labels: []\n", "5: data.labels: it is empty; name the labels, or remove the key"),
        (
            "  labels: {a: ' '}\n",
            "5: data.labels: 'a' has no description; write one, such as {Sports: games and athletes}",
        ),
        ("  labels: [a, b, a]\n", "5: data.labels: 'a' is there twice; name it once"),
        (
            "  label_separator: ''\n",
            "5: data.label_separator: expected text that is not empty, got '' (text)",
        ),
        ("  delimiter: ', '\n", "5: data.delimiter: expected one character, or null, got ', ' (text)"),
        (
            "  validation: 0.5\n  test: 0.5\n",
            "6: data.test: test (0.5) and validation (0.5) leave no training rows; make their sum smaller than 1",
        ),
        (
            "  label_names:\n    0: 1\n",
            "6: data.label_names.0: expected text, got 1; write it in quotes: '1'",
        ),
    ],
)
def test_a_mistake_in_the_data_section(write, data: str, line: str) -> None:
    assert complaint(write(data=data)) == f"recipe.yaml:{line}"


def test_an_unknown_task_lists_the_tasks(write) -> None:
    path = write(whole="name: r\ntask: text_clasification\ndata: {train: x.csv}\nmodel: {backbone: x}\n")
    assert complaint(path) == (
        "recipe.yaml:2: task: there is no task 'text_clasification'; known tasks are "
        "causal_lm, image_classification, image_multilabel, image_regression, masked_lm, object_detection, "
        "question_answering, text_classification, text_embedding, text_multilabel, text_pair_classification, "
        "text_pair_regression, text_regression, token_classification; "
        "did you mean 'text_classification'?"
    )


def test_an_unknown_scheme_lists_the_schemes(write) -> None:
    line = complaint(write("quantize:\n  schemes: [fp16, int8_dynamc]"))
    assert line.startswith(
        "recipe.yaml:8: quantize.schemes.1: there is no scheme 'int8_dynamc'; known schemes are fp16, "
    )
    assert line.endswith("; did you mean 'int8_dynamic'?")


def test_every_mistake_has_its_line(write) -> None:
    path = write(whole="name: a b\ndata:\nmodel:\n  backbon: x\n")
    lines = complaint(path).split("\n")
    assert lines[0] == (
        "recipe.yaml:1: name: expected a name of letters, digits, '.', '_' and '-', a letter or digit first, "
        "got 'a b' (text)"
    )
    assert lines[1].startswith("recipe.yaml: task: missing key; add it: What is learnt: the name of a task")
    assert lines[2].startswith("recipe.yaml:2: data.train: missing key; add it: A CSV, TSV, JSONL or Parquet file;")
    assert lines[3].startswith("recipe.yaml:3: model.backbone: missing key; add it: A hub id")
    assert lines[4:] == [
        "recipe.yaml:4: model.backbon: unknown key; known keys are aggregation, backbone, detector, dimensions, "
        "fit, head, input_size, match, max_answer_length, max_length, max_unknown, normalize, pooling, preprocessing, "
        "prompts, revision, shape, stride, tokenizer, weights; did you mean 'backbone'?"
    ]


def test_long_text_is_cut(write) -> None:
    assert complaint(write(f"seed: {'x' * 99}")).endswith(f"got '{'x' * 57}...' (text)")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("finetune.epochs", "expected KEY=VALUE with a dotted key, such as --set finetune.epochs=5"),
        ("=5", "expected KEY=VALUE with a dotted key, such as --set finetune.epochs=5"),
        ("finetune..epochs=5", "expected KEY=VALUE with a dotted key, such as --set finetune.epochs=5"),
        ("finetune.epochs=many", "finetune.epochs: expected a number above 0, or null, got 'many' (text)"),
        (
            "finetune.epoch=5",
            f"finetune.epoch: unknown key; known keys are {FINETUNE_KEYS}; did you mean 'epochs'?",
        ),
        ("finetun.epochs=5", f"finetun: unknown key; known keys are {TOP_KEYS}; did you mean 'finetune'?"),
        ("name.x=5", "name has no keys inside; set it whole, as in --set name=VALUE"),
        (
            "data.labels=[a",
            "not valid YAML: expected ',' or ']', but got '<stream end>'; a closing bracket or a comma is missing",
        ),
        ("data.labels=[a, 5]", "data.labels.1: expected text, got 5; write it in quotes: '5'"),
    ],
)
def test_a_mistake_in_an_override_names_the_override(write, override: str, line: str) -> None:
    assert complaint(write(data="  labels: [a, b]\n"), override) == f"--set {override}: {line}"


ODD = [
    "null",
    "true",
    "-1",
    "0",
    "3",
    "1e999",
    "2.5",
    "''",
    "no",
    "~x/y",
    "[]",
    "[[1], {a: b}]",
    "{}",
    "{0: [x]}",
]


@pytest.mark.parametrize("value", ODD)
def test_whatever_a_key_is_set_to_is_taken_or_explained(write, value: str) -> None:
    path = write()
    for key, _ in keys.every():
        override = f"{keys.dotted(key)}={value}"
        try:
            load_recipe(path, [override])
        except RecipeError as error:
            for line in str(error).split("\n"):
                sections = [f"--set {override}: {keys.dotted(key[:n])}" for n in range(1, len(key) + 1)]
                assert line.startswith((*sections, "recipe.yaml:"))


def test_a_contradiction_names_the_override_that_made_it(write) -> None:
    path = write("finetune:\n  strategy: partial\n  unfreeze: 2")
    assert complaint(path, "finetune.unfreeze=null").startswith(
        "--set finetune.unfreeze=null: finetune.unfreeze: missing"
    )
