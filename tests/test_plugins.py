import pytest

from tledge import plugins
from tledge.errors import RecipeError


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "kinds_of_tests"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "second.py").write_text("VALUE = 2\n")
    (folder / "first.py").write_text("VALUE = 1\n")
    (folder / "_shared.py").write_text("raise RuntimeError('a private module is no kind')\n")
    (folder / "notes.txt").write_text("no kind\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "kinds_of_tests"


def test_names_are_the_public_modules_sorted(package):
    assert plugins.names(package) == ["first", "second"]


def test_load_gives_the_module(package):
    assert plugins.load(package, "second").VALUE == 2


@pytest.mark.parametrize("kind", ["", "_shared", "notes", "os", "first.x", "../first"])
def test_anything_else_is_unknown(package, kind):
    with pytest.raises(RecipeError, match="known are first, second"):
        plugins.load(package, kind)


def test_unknown_kind_has_a_hint_and_is_one_line():
    with pytest.raises(RecipeError) as caught:
        plugins.load("tledge.tasks", "text_clasification")
    assert str(caught.value) == (
        "'text_clasification' is not among the tasks: known are causal_lm, image_classification, image_multilabel, "
        "image_regression, masked_lm, object_detection, question_answering, text_classification, text_embedding, "
        "text_multilabel, text_pair_classification, text_pair_regression, text_regression, token_classification; "
        "did you mean 'text_classification'?"
    )
