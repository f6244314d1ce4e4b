"""The packages that a device needs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tledge.device import packages

ALL = {package.module: package.least for package in packages.NEEDED}


def test_they_are_the_dependencies_of_the_project():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [package.requirement for package in packages.NEEDED] == project["dependencies"]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, []),
        ({"onnxruntime": None}, [("onnxruntime", "missing")]),
        ({"numpy": "1.9.3"}, [("numpy", "1.9.3, too old")]),
        ({"numpy": "2.0.0rc1"}, []),
        ({"yaml": "6.0.2.post1"}, []),
        ({"PIL": ""}, []),  # there, and nothing tells its version
        ({"typer": None, "rich": "13.6"}, [("rich", "13.6, too old"), ("typer", "missing")]),
    ],
)
def test_missing_and_old_ones_are_found(changes, wrong):
    assert [(package.name, state) for package, state in packages.wrong(ALL | changes)] == wrong


def test_the_cure_names_what_is_missing():
    lacking = [package for package, _ in packages.wrong(ALL | {"numpy": None, "typer": None})]
    assert packages.cure(lacking, "python3", managed=False) == (
        "run there: python3 -m pip install 'numpy>=1.26' 'typer>=0.20,<0.29'"
    )


def test_a_python_of_the_system_gets_an_environment():
    cure = packages.cure([packages.NEEDED[0]], "python3", managed=True)
    assert cure.startswith("run there: python3 -m venv ~/tledge-device && ~/tledge-device/bin/python -m pip install ")
    assert all(package.requirement in cure for package in packages.NEEDED)
    assert cure.endswith("; then add --device-python '~/tledge-device/bin/python'")
