"""Sessions: providers, threads, and one plain line for every way in which a graph cannot be opened."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from tledge.errors import BundleError, InputError
from tledge.runtime import cores, open_session, session_run
from tledge.runtime.session import PROVIDERS, available_providers


def graph(path, *, opset=20, ir_version=10, domain="", op="Identity"):
    """A graph that gives `y`, the sum of `x` and `x`, through one operator."""
    nodes = [helper.make_node("Add", ["x", "x"], ["s"]), helper.make_node(op, ["s"], ["y"], domain=domain)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy")
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=opsets)
    model.ir_version = ir_version
    path.write_bytes(model.SerializeToString())
    return path


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    assert "onnxruntime_src" not in message
    assert len(message) < 500
    return message


def test_run_feeds_only_the_inputs_of_the_graph(tmp_path):
    run = session_run(open_session(graph(tmp_path / "g.onnx"), threads=1))
    result = run({"unused": np.zeros(3), "x": np.array([[1, 2]], np.float32)})
    assert list(result) == ["y"]
    np.testing.assert_array_equal(result["y"], [[2, 4]])


def test_idle_threads_of_a_session_do_not_spin_on(tmp_path):
    options = open_session(graph(tmp_path / "g.onnx"), threads=1).get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_errors_of_a_run_are_mapped(tmp_path):
    run = session_run(open_session(graph(tmp_path / "g.onnx"), threads=1))
    with pytest.raises(BundleError, match="needs the input 'x', got z") as error:
        run({"z": np.zeros((1, 2), np.float32)})
    one_line(error)
    with pytest.raises(InputError, match="invalid dimensions for input: x") as error:
        run({"x": np.zeros((1, 3), np.float32)})
    one_line(error)
    with pytest.raises(InputError, match="Unexpected input data type") as error:
        run({"x": np.zeros((1, 2))})
    one_line(error)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"opset": onnx.defs.onnx_opset_version() + 40}, "opset .* is above"),
        ({"ir_version": 99}, "IR version: 99"),
        ({"domain": "nobody.knows", "op": "Zap"}, "nobody.knows:Zap"),
    ],
)
def test_graph_for_a_newer_onnxruntime(tmp_path, changes, reason):
    path = graph(tmp_path / "g.onnx", **changes)
    with pytest.raises(BundleError, match=f"needs a newer onnxruntime than {ort.__version__}: .*{reason}") as error:
        open_session(path)
    assert str(path) in one_line(error)


@pytest.mark.parametrize("damage", ["garbage", "empty", "cut", "missing", "folder"])
def test_damaged_graph(tmp_path, damage):
    path = graph(tmp_path / "g.onnx")
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"garbage": b"no graph" * 50, "empty": b"", "cut": whole[: len(whole) // 2]}[damage])
    with pytest.raises(BundleError, match=r"g\.onnx (cannot be opened by onnxruntime|is missing)") as error:
        open_session(path)
    one_line(error)


def test_providers_by_short_and_full_name(tmp_path):
    path = graph(tmp_path / "g.onnx")
    for name in ("cpu", "CPU", "CPUExecutionProvider"):
        assert open_session(path, provider=name).get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(InputError, match=r"'cpuu' is not known; available are .*cpu.*did you mean 'cpu'") as error:
        open_session(path, provider="cpuu")
    one_line(error)
    assert set(PROVIDERS.values()) <= set(ort.get_all_providers())
    assert "cpu" in available_providers()


def test_provider_that_is_not_built_in_never_falls_back(tmp_path):
    absent = [name for name in PROVIDERS if name not in available_providers()]
    path = graph(tmp_path / "g.onnx")
    for name in absent:
        with pytest.raises(InputError, match=f"{name!r} is not in this build of onnxruntime; available are"):
            open_session(path, provider=name)
    assert absent, "a build with every provider: this test then says nothing"


def test_provider_that_cannot_start_never_falls_back(tmp_path, monkeypatch):
    class Fallen(ort.InferenceSession):
        def get_providers(self):
            return ["CPUExecutionProvider"]

    path = graph(tmp_path / "g.onnx")
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["AzureExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", Fallen)
    with pytest.raises(InputError, match="could not start here"):
        open_session(path, provider="AzureExecutionProvider")


def test_threads_default_to_the_cores_that_we_may_use(tmp_path, monkeypatch):
    monkeypatch.setattr("tledge.runtime.session.available_cores", lambda: 3)
    path = graph(tmp_path / "g.onnx")
    for asked, got in ((None, 3), (2, 2)):
        options = open_session(path, threads=asked).get_session_options()
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (got, 1)
    with pytest.raises(InputError, match="threads must be 1 or more, got 0"):
        open_session(path, threads=0)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_quota_of_control_groups_version_2(tmp_path):
    own, mount = tmp_path / "own", tmp_path / "mount"
    write(own, "0::/outer/inner\n")
    write(mount / "outer" / "inner" / "cpu.max", "max 100000\n")
    assert cores.quota_cores(mount=mount, own=own) is None
    write(mount / "outer" / "cpu.max", "150000 100000\n")
    assert cores.quota_cores(mount=mount, own=own) == 1.5


def test_quota_of_control_groups_version_1(tmp_path):
    own, mount = tmp_path / "own", tmp_path / "mount"
    write(own, "7:memory:/m\n4:cpu,cpuacct:/job\n1:name=systemd:/x\n")
    folder = mount / "cpu,cpuacct" / "job"
    write(folder / "cpu.cfs_period_us", "100000\n")
    write(folder / "cpu.cfs_quota_us", "-1\n")
    assert cores.quota_cores(mount=mount, own=own) is None
    write(folder / "cpu.cfs_quota_us", "250000\n")
    assert cores.quota_cores(mount=mount, own=own) == 2.5


def test_no_control_groups(tmp_path):
    assert cores.quota_cores(mount=tmp_path, own=tmp_path / "none") is None


def test_cores_are_physical_and_within_the_quota(tmp_path, monkeypatch):
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        write(tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list", siblings + "\n")
    assert cores._physical({0, 1, 2, 3}, tmp_path) == 2
    assert cores._physical({0, 2}, tmp_path) == 1
    assert cores._physical({0, 1, 9}, tmp_path) == 3
    monkeypatch.setattr(cores, "quota_cores", lambda: 0.5)
    assert cores.available_cores() == 1
    monkeypatch.setattr(cores, "quota_cores", lambda: None)
    assert cores.available_cores() >= 1
