"""The package's public names, and that importing it loads none of them."""

import subprocess
import sys

import pytest

import tledge
from tledge.errors import TledgeError
from tledge.runtime import Predictor


def test_names_resolve():
    assert tledge.Predictor is Predictor
    assert tledge.TledgeError is TledgeError
    assert tledge.__version__.count(".") == 2
    assert set(tledge.__all__) <= set(dir(tledge))


def test_unknown_name():
    with pytest.raises(AttributeError, match="'tledge' has no attribute 'Predicter'"):
        _ = tledge.Predicter


def test_import_is_light():
    code = (
        "import sys; before = set(sys.modules); import tledge; tledge.TledgeError\n"
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before}))\n"
        "assert 'numpy' not in sys.modules and 'onnxruntime' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "'tledge'" in done.stdout


def test_all_is_documented_and_has_a_home():
    for name in tledge.__all__:
        assert f"`{name}`" in tledge.__doc__
        assert getattr(tledge, name) is not None
    assert set(tledge._HOMES) | {"__version__"} == set(tledge.__all__)


def test_names_are_those_of_their_rooms():
    from tledge import pipeline, recipe

    assert tledge.run is pipeline.run
    assert tledge.load_recipe is recipe.load_recipe


def test_star_import():
    names = {}
    exec("from tledge import *", names)
    assert set(tledge.__all__) <= set(names)
