"""The order of the stages on one run folder: what is redone, what is kept, and what a kill leaves behind."""

import csv
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny_project

import tledge
from tledge import bundle, pipeline
from tledge.artifacts import read_json, write_json
from tledge.errors import BundleError, MissingExtraError, ParityError, RecipeError, TledgeError
from tledge.recipe import load_recipe

PLAIN = [name for name in pipeline.STAGES if name not in ("distill", "baseline")]  # which a recipe must ask for
INTERRUPTED = Path(__file__).with_name("interrupted.py")


needs_azure = pytest.mark.skipif(
    "AzureExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs a provider beside the CPU"
)


def go_on(run, *overrides, until="report"):
    """Go on with a run; gives each stage's line."""
    lines = []
    pipeline.run(load_recipe(run / "recipe.yaml", overrides), run, until=until, say=lines.append)
    return dict(line.split(": ", 1) for line in lines)


def files(run, *names):
    """Files of stages, by default of the whole run, with their times of change."""
    found = [
        path for name in names or [""] for path in (run / name).rglob("*") if path.is_file() and path.name != "lock"
    ]
    assert found
    return {path.relative_to(run).as_posix(): path.stat().st_mtime_ns for path in found}


def results(run):
    """What a run computed, without what it timed: weights, metrics, and the test rows' outputs."""
    variants = read_json(run / "quantize" / "variants.json")
    return {
        "weights": (run / "train" / "checkpoint" / "model.safetensors").read_bytes(),
        "fp32": (run / "quantize" / "model.onnx").read_bytes(),
        "metrics": [(v["name"], v["metrics"], v["test_metrics"], v["agreement"]) for v in variants],
        "data": read_json(run / "data" / "data.json")["rows"],
        "curve": [phase["curve"] for phase in read_json(run / "train" / "train.json")["phases"]],
    }


def test_whole_run(finished):
    assert {path.name for path in finished.run.iterdir()} == {*PLAIN, "recipe.yaml", "logs", "stages"}
    lines = finished.process.stderr.splitlines()
    said = dict.fromkeys(line.partition(":")[0] for line in lines)  # where int8 is slower here, quantize has more
    assert list(said) == list(PLAIN), "nothing but the stages' lines"
    assert f"report     {Path('runs/tiny/report/report.html')}" in finished.process.stdout.splitlines()
    facts = read_json(finished.run / "report" / "facts.json")
    assert facts["labels"] == ["heat", "light", "music"]
    assert set(facts["stage_seconds"]) == set(PLAIN) - {"report"}
    for name in PLAIN:
        assert read_json(finished.run / "stages" / f"{name}.json")["tledge"] == tledge.__version__


def test_it_learns(finished):
    [phase] = read_json(finished.run / "train" / "train.json")["phases"]
    assert phase["best_metric"] > 0.6
    answer = tledge.Predictor.load(finished.run / "bundle").predict("please song tune")
    assert answer["label"] == "music"


def test_a_second_run_does_nothing(run_copy):
    before = files(run_copy, *PLAIN, "stages", "logs")
    assert go_on(run_copy) == dict.fromkeys(PLAIN, "already done")
    assert files(run_copy, *PLAIN, "stages", "logs") == before


def test_without_a_cache_folder_features_are_kept_for_the_training_alone(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished.run.parents[1])
    monkeypatch.setenv("TLEDGE_CACHE", str(Path(os.devnull, "cache")))  # no folder, on any system
    lines = []
    recipe = load_recipe(finished.run / "recipe.yaml", ["finetune.strategy=probe", "finetune.epochs=1"])
    pipeline.run(recipe, tmp_path / "run", until="train", say=lines.append)
    [told] = [line for line in lines if "TLEDGE_CACHE" in line]
    assert told.startswith("train: the cache folder cannot be written: ")
    assert not (tmp_path / "run" / "train" / "features").exists()
    monkeypatch.setenv("TLEDGE_CACHE", str(tmp_path / "cache"))
    pipeline.run(recipe, tmp_path / "other", until="train")
    weights = [(tmp_path / name / "train/checkpoint/model.safetensors").read_bytes() for name in ("run", "other")]
    assert weights[0] == weights[1]


def test_changed_schemes_redo_what_comes_after(run_copy):
    before = files(run_copy, "data", "train", "export")
    lines = go_on(run_copy, "quantize.schemes=[fp16]", until="bundle")
    assert [name for name, line in lines.items() if line == "already done"] == ["data", "train", "export"]
    assert files(run_copy, "data", "train", "export") == before
    assert [v["name"] for v in read_json(run_copy / "bundle" / "bundle.json")["variants"]] == ["fp32", "fp16"]
    assert load_recipe(run_copy / "recipe.yaml").quantize.schemes == ["fp16"]


def test_a_changed_data_file_redoes_all(project):
    run = project.parent / "run"
    recipe = load_recipe(project)
    pipeline.run(recipe, run, until="data")
    keys = [key := ""] + [key := pipeline._plan(name, recipe, {"": key}).key for name in pipeline.STAGES]
    with (project.parent / "rows.csv").open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow(["a new song in the room", "music"])
    changed = [key := ""] + [key := pipeline._plan(name, recipe, {"": key}).key for name in pipeline.STAGES]
    assert not set(keys[1:]) & set(changed[1:])
    assert "55 train rows" in go_on(run, until="data")["data"]


def test_a_changed_backbone_redoes_training(project):
    recipe = load_recipe(project)
    before = pipeline._plan("train", recipe, {}).key
    os.utime(project.parent / "backbone" / "config.json", ns=(1, 1))
    assert pipeline._plan("train", recipe, {}).key != before


def test_a_failed_stage_keeps_the_ones_before(run_copy):
    kept = files(run_copy, "data", "train")
    with pytest.raises(ParityError, match="parity"):
        go_on(run_copy, "export.atol=1e-30", "export.rtol=0", until="export")
    assert "ParityError: " in (run_copy / "logs" / "export.log").read_text(encoding="utf-8")
    assert not all(case["passed"] for case in read_json(run_copy / "logs" / "parity.json"))
    assert set(go_on(run_copy, "export.atol=1e-4", until="export").values()) == {"already done"}
    assert files(run_copy, "data", "train") == kept


@pytest.mark.parametrize("override", ["data.train=nope.csv", "model.backbone=nope", "bench.duration_s=1e-6"])
def test_a_command_that_fails_before_anything_is_made_leaves_the_run_as_it_was(override, run_copy):
    kept = files(run_copy)
    with pytest.raises(TledgeError):
        go_on(run_copy, override)
    names = {name: time for name, time in files(run_copy).items() if not name.startswith("logs")}
    left = {name for name in names if name not in kept}
    assert all(".partial" in name for name in left)
    assert {name: time for name, time in names.items() if name not in left | {"recipe.yaml"}} == {
        name: time for name, time in kept.items() if name != "recipe.yaml" and not name.startswith("logs")
    }
    assert bundle.find(run_copy) == run_copy / "bundle"
    assert set(go_on(run_copy).values()) == {"already done"}
    assert not list(run_copy.rglob("*.partial*"))


def test_an_interrupted_change_that_is_taken_back_costs_nothing(run_copy, monkeypatch):
    kept = files(run_copy, "train", "quantize", "bundle")

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tledge.train.fit", stopped)
        with pytest.raises(KeyboardInterrupt):
            go_on(run_copy, "finetune.epochs=60")
    assert bundle.find(run_copy) == run_copy / "bundle"
    assert set(go_on(run_copy, "finetune.epochs=6").values()) == {"already done"}
    assert files(run_copy, "train", "quantize", "bundle") == kept


@pytest.mark.parametrize("name", ["data", "report", "recipe.yaml"])
def test_a_folder_with_files_of_the_users_own_is_no_run_folder(name, project, tmp_path):
    own = tmp_path / "mine" / name
    own.parent.mkdir()
    own.write_text("precious")
    with pytest.raises(RecipeError, match=f"holds '{name}', which is no run's"):
        pipeline.run(load_recipe(project), tmp_path / "mine")
    assert [path.name for path in own.parent.iterdir()] == [name]
    assert own.read_text() == "precious"


def test_export_alone_keeps_the_variants_of_a_run_that_is_whole(run_copy):
    lines = []
    recipe = load_recipe(run_copy / "recipe.yaml")
    pipeline.run(recipe, run_copy, until="bundle", fp32_only=True, say=lines.append)
    assert {line.partition(": ")[2] for line in lines} == {"already done"}
    assert [variant.name for variant in bundle.load(run_copy / "bundle").variants] == ["fp32", "int8_dynamic"]


def test_too_little_time_for_a_median(run_copy):
    with pytest.raises(RecipeError, match=r"bench.duration_s: 1e-06 s gave \d runs of .*; raise it"):
        go_on(run_copy, "bench.duration_s=1e-6", until="quantize")


@needs_azure
def test_graphs_are_timed_and_chosen_on_the_provider_of_the_recipe(run_copy):
    told = go_on(run_copy, "bench.provider=azure", until="report")
    assert told["export"] == "already done"
    assert " chosen on azure, test " in told["quantize"]
    for variant in read_json(run_copy / "quantize" / "variants.json"):
        assert variant["latency_at"] == "batch 1, length 8, 1 thread, azure"
    bench = read_json(run_copy / "bench" / "bench.json")
    assert bench["provider"] == "azure"
    assert "the graphs ran on the provider azure, and torch eager on the CPU" in bench["notes"]
    report = (run_copy / "report" / "report.html").read_text(encoding="utf-8")
    assert "batch 1, length 8, 1 thread, azure" in report
    assert "torch eager on the CPU" in report
    shown = {each["name"]: each["latency_ms"] for each in read_json(run_copy / "report" / "facts.json")["variants"]}
    assert shown["fp32"] == next(r for r in bench["latencies"] if r["candidate"] == "fp32")["percentiles_ms"]["p50"]


@pytest.mark.parametrize(
    ("provider", "reason"),
    [("rocm", "is not in this build of onnxruntime; available are"), ("cpuu", "is not known.* did you mean 'cpu'")],
)
def test_a_provider_that_is_not_there_is_told_before_any_work(provider, reason, project):
    run = project.parent / "run"
    recipe = load_recipe(project, [f"bench.provider={provider}"])
    with pytest.raises(RecipeError, match=rf"^bench\.provider: the provider '{provider}' {reason}") as error:
        pipeline.run(recipe, run)
    assert "\n" not in str(error.value)
    assert not (run / "data").exists()
    pipeline.run(recipe, run, until="data")  # which times nothing


@needs_azure
def test_a_provider_that_cannot_start_is_told_before_any_work(project, monkeypatch):
    class Fallen(onnxruntime.InferenceSession):
        def get_providers(self):
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Fallen)
    with pytest.raises(RecipeError, match=r"^bench\.provider: the provider 'azure' could not start here"):
        pipeline.run(load_recipe(project, ["bench.provider=azure"]), project.parent / "run")


def test_a_finished_run_is_read_where_its_provider_is_not(run_copy, monkeypatch):
    everywhere = load_recipe(run_copy / "recipe.yaml", ["bench.provider=cuda"])
    monkeypatch.setattr(pipeline, "_why_again", lambda job, name, plan: "")
    pipeline._require_provider(pipeline.Job(everywhere, run_copy), "report")


def test_a_defect_is_in_the_log(project, monkeypatch):
    def broken(job, folder):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("tledge.stages.data.stage", broken)
    with pytest.raises(ZeroDivisionError):
        pipeline.run(project, project.parent / "run")
    assert "ZeroDivisionError: a defect" in (project.parent / "run" / "logs" / "data.log").read_text(encoding="utf-8")


def test_run_folder_that_is_a_file(project):
    with pytest.raises(RecipeError, match=r"run folder .*rows.csv cannot be written: .*--out"):
        pipeline.run(project, project.parent / "rows.csv")


def test_without_torch(project, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"tledge\[train\]"):
        pipeline.run(project, project.parent / "run")
    assert not (project.parent / "run").exists()


def test_summary_names_what_the_verb_made(run_copy):
    assert set(pipeline.summary(run_copy, until="train")) == {"run", "checkpoint"}
    assert set(pipeline.summary(run_copy, until="bundle")) == {"run", "checkpoint", "graph", "bundle"}
    found = pipeline.summary(run_copy)
    assert found.pop("verdict").endswith(".")
    assert all(Path(path).exists() for path in found.values())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="stops forks of one process, since each fresh one takes seconds")
def test_stopped_anywhere_it_goes_on_to_the_same_result(finished, project):
    """Ctrl-C once, and kill -9 in every stage: while its folder is half-written, and before that is renamed."""
    moments = [
        ("data.partial/data.json", signal.SIGKILL),
        ("/data$", signal.SIGKILL),
        ("train.partial/full/resume.json", signal.SIGINT),
        ("train.partial/full/resume.pt$", signal.SIGKILL),
        ("train.partial/full/fitted.json", signal.SIGKILL),
        ("train.partial/train.json", signal.SIGKILL),
        ("/train$", signal.SIGKILL),
        ("export.partial/graph.json", signal.SIGKILL),
        ("quantize.partial/variants.json", signal.SIGKILL),
        ("bundle.partial/bundle.json", signal.SIGKILL),
        ("bench.partial/bench.json", signal.SIGKILL),
        ("report.partial/report.md", signal.SIGKILL),
    ]
    run = project.parent / "run"
    commands = [
        {"argv": ["run", str(project), "--out", str(run)], "path": path, "signal": int(number)}
        for path, number in [*moments, ("never", signal.SIGKILL)]
    ]
    stopped = subprocess.run(
        [sys.executable, INTERRUPTED], input=json.dumps(commands), capture_output=True, text=True, check=True,
        env={**os.environ, **tiny_project.ENV},
    )  # fmt: skip
    *outcomes, last = json.loads(stopped.stdout)
    for (path, number), one in zip(moments, outcomes, strict=True):
        assert one["code"] == (130 if number == signal.SIGINT else -number), f"{path}: {one['shown']}"
        if number == signal.SIGINT:
            assert "stopped: " in one["shown"].splitlines()[-1]
            assert "Traceback" not in one["shown"]
    assert re.search(r"train: .*after step \d+ of \d+ in full", outcomes[3]["shown"])
    assert last["code"] == 0, last["shown"]
    assert not list(run.glob("*.partial"))
    ours, theirs = results(run), results(finished.run)
    assert [name for name in theirs if ours[name] != theirs[name]] == []
    assert set(files(run)) == set(files(finished.run))


TORCHRUN = shutil.which("torchrun", path=Path(sys.executable).parent) or shutil.which("torchrun")


@pytest.mark.slow
@pytest.mark.skipif(TORCHRUN is None, reason="needs torchrun")
@pytest.mark.parametrize("strategy", ["probe", "full"])
def test_two_processes(project, strategy):
    arguments = ["export", "recipe.yaml", "--set", f"finetune.strategy={strategy}", "--set", "finetune.epochs=2"]
    done = subprocess.run(
        [TORCHRUN, "--standalone", "--nproc-per-node", "2", "-m", "tledge", *arguments],
        cwd=project.parent, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, **tiny_project.ENV},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = project.parent / "runs" / "tiny"
    assert not list(run.glob("*.partial"))
    assert done.stderr.count(f"train: {strategy}, validation accuracy") == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["run", "checkpoint", "graph", "bundle"]
    from tledge import inputs, model
    from tledge.export import torch_run

    logits = torch_run(model.load(run / "train" / "checkpoint"))(
        inputs.load("text", run / "train" / "checkpoint").encode(["a song"])
    )["logits"]
    assert logits.shape == (1, 3)
    assert np.isfinite(logits).all()


def test_what_changed_is_said(run_copy):
    lines = []
    recipe = load_recipe(run_copy / "recipe.yaml", ["budget.max_metric_drop=0.4"])
    pipeline.run(recipe, run_copy, until="quantize", say=lines.append)
    before = load_recipe(run_copy / "recipe.yaml").budget.max_metric_drop
    assert before == 0.4  # it is the run's own now
    again = [line for line in lines if ": again, since " in line]
    assert len(again) == 1
    assert again[0].startswith("quantize: again, since budget.max_metric_drop was ")
    assert again[0].endswith(", is 0.4")


def test_an_older_bundle_is_refused_and_an_older_report_put_aside(run_copy):
    lines = []
    recipe = load_recipe(run_copy / "recipe.yaml", ["finetune.epochs=1"])
    pipeline.run(recipe, run_copy, until="train", say=lines.append)
    assert any(line.startswith("train: again, since finetune.epochs was ") for line in lines)
    assert lines[-1].startswith("export, quantize, bundle, bench, report: of an older state of this run; its report is")
    assert not (run_copy / "report").exists()
    assert (run_copy / "report.old" / "report.html").exists()
    for path in (run_copy, run_copy / "bundle"):
        with pytest.raises(BundleError, match=r"of an older state of its run: the stage train was made again"):
            bundle.find(path)
    go_on(run_copy)
    assert bundle.find(run_copy) == run_copy / "bundle"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("train/checkpoint/model.safetensors", "cut"),
        ("export/model.onnx", "emptied"),
        ("quantize/variants.json", "another"),
        ("bundle/bundle.json", "missing"),
        pytest.param("stages/export.json", "cut", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_file_is_made_again(name, damage, run_copy):
    path = run_copy / name
    content = path.read_bytes()
    expected = results(run_copy)
    if damage == "missing":
        path.unlink()
    else:
        changed = {"cut": content[: len(content) // 2], "emptied": b"", "another": content[:-1] + b" "}[damage]
        path.write_bytes(changed)
    lines = []
    pipeline.run(load_recipe(run_copy / "recipe.yaml"), run_copy, until="bundle", say=lines.append)
    stage = Path(name).stem if name.startswith("stages/") else name.partition("/")[0]
    done = [line.partition(":")[0] for line in lines if line.endswith(": already done")]
    assert stage not in done
    if not name.startswith("stages/"):
        assert any(line.startswith(f"{stage}: again, since {name} ") for line in lines)
    assert path.stat().st_size
    assert results(run_copy) == expected
    assert bundle.find(run_copy)
    reader = {"train": "export", "quantize": "bundle"}.get(stage)  # of files with times in them, which are others now
    assert reader not in done


def test_a_file_in_the_place_of_a_stage_is_replaced(run_copy):
    for name in ("data", "export.partial"):
        shutil.rmtree(run_copy / name, ignore_errors=True)
        (run_copy / name).write_text("no folder")
    shutil.rmtree(run_copy / "export")
    lines = go_on(run_copy, until="export")
    assert lines["train"] == "already done", "the rows are the same ones again"
    assert (run_copy / "data" / "data.json").exists()
    assert (run_copy / "export" / "model.onnx").exists()


def test_a_damaged_later_stage_is_not_read(run_copy):
    (run_copy / "bench" / "bench.json").write_bytes(b"")
    (run_copy / "bundle" / "README.md").unlink()
    go_on(run_copy, until="bundle")
    assert (run_copy / "bundle" / "README.md").exists()
    assert not (run_copy / "bench").exists()


def test_killed_after_a_phase_its_checkpoint_is_removed(run_copy):
    record = run_copy / "stages" / "train.json"
    half = {key: value for key, value in read_json(record).items() if key != "files"}
    write_json(record.with_name("train.partial.json"), half)
    record.unlink()
    (run_copy / "train").rename(run_copy / "train.partial")
    for name in ("resume.pt", "resume.pt.partial", "resume.json"):
        (run_copy / "train.partial" / "full" / name).write_text("{}", encoding="utf-8")
    names = ("full/fitted.json", "checkpoint/config.json", "checkpoint/tokenizer_config.json")
    before = [(run_copy / "train.partial" / name).read_bytes() for name in names]
    assert go_on(run_copy, until="train")["train"].startswith("full, ")
    assert [(run_copy / "train" / name).read_bytes() for name in names] == before
    assert not list(run_copy.rglob("resume.*"))


def test_another_process_on_the_same_run_ends_with_one_line(run_copy):
    code = (
        "import sys, time; from pathlib import Path; from tledge import pipeline\n"
        "with pipeline._held(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    recipe = (run_copy / "recipe.yaml").read_bytes()
    other = subprocess.Popen([sys.executable, "-c", code, str(run_copy)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RecipeError, match=rf"is being worked on by process {other.pid} on .* since 20\d\d-.*--out"):
            go_on(run_copy, "finetune.epochs=1")
        assert (run_copy / "recipe.yaml").read_bytes() == recipe, "it is the other's"
    finally:
        other.kill()
        other.wait()
    assert set(go_on(run_copy).values()) == {"already done"}  # a killed process holds nothing


def test_from_where_a_training_goes_on_is_said(tmp_path):
    assert pipeline._reached(tmp_path) == ""
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "fitted.json").write_text("{}", encoding="utf-8")
    for phase, step in (("earlier", 20), ("full", 40)):
        (tmp_path / phase).mkdir()
        write_json(tmp_path / phase / "resume.json", {"step": step, "of": 1200})
        os.utime(tmp_path / phase / "resume.json", (step, step))
    assert pipeline._reached(tmp_path) == "after step 40 of 1,200 in full, with probe done"
