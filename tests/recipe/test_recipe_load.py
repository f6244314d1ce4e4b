from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tledge.recipe
from tledge.errors import RecipeError
from tledge.recipe import load_recipe, save_recipe

HOME = Path("~").expanduser()


def complaint(path: str | Path) -> str:
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    return str(error.value)


def test_the_smallest_recipe_has_the_defaults(write) -> None:
    recipe = load_recipe(write())
    assert (recipe.name, recipe.seed, recipe.model.backbone) == ("mine", 42, "owner/name")
    assert recipe.finetune.strategy == "probe"
    assert (recipe.bench.length, recipe.bench_lengths) == (None, [32, 128])


def test_numbers_and_words_of_yaml_12(write) -> None:
    path = write("finetune:\n  learning_rate: 1e-3", data="  labels: [yes, no]\n  label_names: {1: on, 0: off}\n")
    recipe = load_recipe(path)
    assert recipe.finetune.learning_rate == 0.001
    assert recipe.data.labels == ["yes", "no"]
    assert recipe.data.label_names == {"1": "on", "0": "off"}


def test_an_empty_section_means_its_defaults(write) -> None:
    empty = load_recipe(write("finetune:\nexport:\nbench:\n", model="  head:\n"))
    assert empty == load_recipe(write())


def test_validation_takes_a_share_a_count_or_a_file(write) -> None:
    got = [load_recipe(write(), [f"data.validation={value}"]).data.validation for value in ("0.3", "300", "v.csv")]
    assert repr(got) == repr([0.3, 300, str(Path("v.csv").absolute())])


def test_a_byte_order_mark_is_no_key(write) -> None:
    path = Path(write())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_recipe(path).name == "mine"


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_an_empty_file(write, text: str) -> None:
    path = write(whole=text)
    assert complaint(path) == ("recipe.yaml: the file is empty; expected a recipe (`tledge init` writes a starter)")


@pytest.mark.parametrize(
    ("text", "got"),
    [("- a\n", "a list"), ("\nname:mine\n", "name:mine; put a space after the colon"), ("3", "3")],
)
def test_a_file_without_keys(write, text: str, got: str) -> None:
    line = 2 if text[0] == "\n" else 1
    assert complaint(write(whole=text)) == (
        f"recipe.yaml:{line}:1: expected keys with values, such as `name: my-run`, got {got}"
    )


def test_no_such_file(write) -> None:
    write()
    assert complaint("recpe.yaml") == ("recpe.yaml: no such file, expected a recipe; did you mean 'recipe.yaml'?")
    assert complaint("elsewhere/x.yaml") == "elsewhere/x.yaml: no such file, expected a recipe"


def test_a_folder(write) -> None:
    write()
    assert complaint(".") == ".: a folder, expected a recipe's YAML file; it holds recipe.yaml"


def test_a_file_that_is_no_text(write) -> None:
    write()
    Path("recipe.yaml").write_bytes(b"name: x\ntask: caf\xe9\n")
    assert complaint("recipe.yaml") == "recipe.yaml:2: not UTF-8 text; save the recipe as UTF-8"


def test_a_syntax_error_has_line_and_column(write) -> None:
    assert complaint(write("finetune:\n  epochs: 3\n   cache: true")).startswith("recipe.yaml:9:9: not valid YAML: ")


def test_a_key_twice(write) -> None:
    assert complaint(write("name: again")) == "recipe.yaml:7:1: 'name' is there twice (first on line 1); keep one"


class TestOverrides:
    def test_values_are_yaml(self, write) -> None:
        overrides = [
            "finetune.epochs=5",
            "data.labels=[no, on]",
            "finetune.class_weights=null",
            "data.columns.text=review",
            "finetune.learning_rate=1e-3",
        ]
        recipe = load_recipe(write("finetune:\n  class_weights: balanced"), overrides)
        assert recipe.finetune.epochs == 5
        assert recipe.data.labels == ["no", "on"]
        assert recipe.finetune.class_weights is None
        assert recipe.data.columns == {"text": "review"}
        assert recipe.finetune.learning_rate == 0.001

    def test_the_last_one_counts(self, write) -> None:
        assert load_recipe(write("seed: 1"), ["seed=2", "seed=3"]).seed == 3

    def test_a_section_that_the_file_lacks(self, write) -> None:
        assert load_recipe(write("budget:"), ["budget.size_mb=10", "bench.batch=[4]"]).bench.batch == [4]

    def test_a_value_may_hold_an_equals_sign(self, write) -> None:
        assert load_recipe(write(), ["data.label_names.x=a=b"]).data.label_names == {"x": "a=b"}


class TestPaths:
    """A path in the file starts from the file's folder, one in an override from the current folder."""

    @pytest.fixture
    def path(self, write) -> Path:
        folder = Path("recipes")
        folder.mkdir()
        return Path(write()).rename(folder / "recipe.yaml")

    def test_in_the_file(self, path: Path, tmp_path: Path) -> None:
        assert load_recipe(path).data.train == str(tmp_path / "recipes" / "rows.csv")

    def test_in_an_override(self, path: Path, tmp_path: Path) -> None:
        data = load_recipe(path, ["data.test=../t.csv", "data={train: x.csv, test: sub/t.csv}"]).data
        assert (data.train, data.test) == (str(tmp_path / "x.csv"), str(tmp_path / "sub" / "t.csv"))

    def test_in_an_override_with_another_current_folder(self, path: Path, tmp_path: Path) -> None:
        data = load_recipe(path, ["data.test=../t.csv"], cwd=tmp_path / "a").data
        assert (data.train, data.test) == (str(tmp_path / "recipes" / "rows.csv"), str(tmp_path / "t.csv"))

    @pytest.mark.parametrize("source", ["hub:owner/name@train", "package:name/rows.csv"])
    def test_a_prefix_is_left_alone(self, path: Path, source: str) -> None:
        recipe = load_recipe(path, [f"data.train={source}", f"model.backbone={source}"])
        assert (recipe.data.train, recipe.model.backbone) == (source, source)

    def test_home(self, path: Path) -> None:
        recipe = load_recipe(path, ["data.train=~/x.csv", "model.backbone=~/model"])
        assert (recipe.data.train, recipe.model.backbone) == (str(HOME / "x.csv"), str(HOME / "model"))

    def test_a_home_of_nobody_is_a_name(self, path: Path, tmp_path: Path) -> None:
        got = load_recipe(path, ["data.train=~nobody-of-that-name/x.csv"]).data.train
        assert got == str(tmp_path / "~nobody-of-that-name" / "x.csv")

    @pytest.mark.parametrize("backbone", ["owner/name", "bert-base-uncased"])
    def test_a_backbone_is_a_hub_id_unless_the_folder_exists(self, path: Path, tmp_path: Path, backbone: str) -> None:
        path.write_text(path.read_text().replace("owner/name", backbone))
        assert load_recipe(path).model.backbone == backbone
        (tmp_path / backbone).mkdir(parents=True)
        assert load_recipe(path).model.backbone == backbone
        assert load_recipe(path, [f"model.backbone={backbone}"]).model.backbone == str(tmp_path / backbone)
        (path.parent / backbone).mkdir(parents=True)
        assert load_recipe(path).model.backbone == str(tmp_path / "recipes" / backbone)

    @pytest.mark.parametrize("backbone", ["./model", "../recipes/model"])
    def test_a_backbone_that_looks_like_a_path_is_one(self, path: Path, tmp_path: Path, backbone: str) -> None:
        path.write_text(path.read_text().replace("owner/name", backbone))
        assert load_recipe(path).model.backbone == str(tmp_path / "recipes" / "model")


class TestSave:
    def test_what_is_saved_loads_the_same_from_anywhere(self, write, tmp_path: Path) -> None:
        path = write(
            "finetune:\n  strategy: partial\n  unfreeze: '*.layer.5.*'\n  class_weights: {yes: 1e-3, 1e-3: 2}",
            data="  labels: ['1e-3', yes, 'null']\n  delimiter: \"\\t\"\n  validation: 200\n",
        )
        recipe = load_recipe(path, ["data.test=t.csv"])
        (tmp_path / "runs").mkdir()
        saved = tmp_path / "runs" / "recipe.yaml"
        save_recipe(recipe, saved)
        again = load_recipe(saved, cwd=tmp_path / "runs")
        assert again == recipe
        assert repr(again) == repr(recipe)

    def test_the_text_is_whole_and_always_the_same(self, write, tmp_path: Path) -> None:
        recipe = load_recipe(write())
        saved = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
        for path in saved:
            save_recipe(recipe, path)
        lines = saved[0].read_text(encoding="utf-8").splitlines()
        assert lines[:2] == ["# yaml-language-server: $schema=recipe.schema.json", "name: mine"]
        assert "  warmup_ratio: 0.1" in lines
        assert saved[0].read_bytes() == saved[1].read_bytes()
        assert sorted(file.name for file in tmp_path.iterdir()) == ["a.yaml", "b.yaml", "recipe.yaml"]


def test_public_names() -> None:
    assert [name for name in tledge.recipe.__all__ if not hasattr(tledge.recipe, name)] == []


def test_names_of_schemes_are_known_without_onnx(write) -> None:
    code = (
        "import sys; from tledge.recipe import load_recipe; load_recipe('recipe.yaml');"
        "print([m for m in ('torch', 'transformers', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    root = str(Path(tledge.recipe.__file__).parents[2])
    write()
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
