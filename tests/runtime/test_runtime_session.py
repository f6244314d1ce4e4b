"""Sessions: providers, threads, and one plain line for every way in which a graph cannot be opened."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from tledge.errors import BundleError, InputError
from tledge.runtime import cores, open_session, session, session_run
from tledge.runtime.assignment import Assigned, assigned_nodes
from tledge.runtime.session import PROVIDERS, available_providers


def graph(path, *, opset=20, ir_version=10, domain="", op="Identity"):
    """A graph that gives `y`, the sum of `x` and `x`, through one operator."""
    nodes = [helper.make_node("Add", ["x", "x"], ["s"], "sum"), helper.make_node(op, ["s"], ["y"], domain=domain)]
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


def test_weights_that_are_missing_or_outside_are_named(tmp_path):
    path = tmp_path / "g.onnx"
    weight = numpy_helper.from_array(np.ones((1000,), np.float32), "w")
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1000])
    made = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [value], [weight])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path, save_as_external_data=True, location="any.bin", size_threshold=0)
    assert session_run(open_session(path))({})["y"].sum() == 1000
    (tmp_path / "any.bin").unlink()
    with pytest.raises(
        BundleError, match=r"g\.onnx has weights in 'any\.bin', which is not in .*put it there"
    ) as error:
        open_session(path)
    one_line(error)
    tensor = model.graph.initializer[0]
    next(entry for entry in tensor.external_data if entry.key == "location").value = "../any.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"g\.onnx has weights in '\.\./any\.bin', outside its folder"):
        open_session(path)


def test_providers_by_short_and_full_name(tmp_path):
    path = graph(tmp_path / "g.onnx")
    for name in ("cpu", "CPU", "CPUExecutionProvider"):
        assert open_session(path, provider=name).get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(InputError, match=r"'cpuu' is not known; available are .*cpu.*did you mean 'cpu'") as error:
        open_session(path, provider="cpuu")
    one_line(error)
    retired = {"ROCMExecutionProvider"}  # known to older releases alone
    assert set(PROVIDERS.values()) - retired <= set(ort.get_all_providers())
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


needs_azure = pytest.mark.skipif(
    "azure" not in available_providers(), reason="needs a provider beside the CPU; Azure's runs no node of ours"
)


@needs_azure
def test_strict_provider_names_what_it_leaves_to_the_cpu(tmp_path):
    path = graph(tmp_path / "g.onnx")
    assert open_session(path, provider="azure").get_providers()[0] == "AzureExecutionProvider"
    with pytest.raises(InputError, match=r"'azure' cannot run 2 of 2 nodes of .*g\.onnx \(Add 1, Relu 1\)") as error:
        open_session(graph(path, op="Relu"), provider="azure", strict=True)
    assert "leave --strict-provider out" in one_line(error)


@needs_azure
def test_strict_provider_names_the_commonest_operators_alone(tmp_path, monkeypatch):
    nodes = [Assigned("CPUExecutionProvider", f"Op{size}") for size in range(1, 9) for _ in range(size)]
    nodes += [Assigned("AzureExecutionProvider", "Gemm")] * 64
    monkeypatch.setattr(session, "assigned_nodes", lambda _: nodes)
    named = r"36 of 100 nodes of .* \(Op8 8, Op7 7, Op6 6, Op5 5, Op4 4, 3 more types\)"
    with pytest.raises(InputError, match=named):
        open_session(graph(tmp_path / "g.onnx"), provider="azure", strict=True)


@needs_azure
def test_strict_provider_with_an_onnxruntime_that_does_not_tell(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "assigned_nodes", lambda _: [])
    with pytest.raises(InputError, match=r"some nodes of .* \(onnxruntime .* does not tell which\)") as error:
        open_session(graph(tmp_path / "g.onnx"), provider="azure", strict=True)
    one_line(error)


def test_strict_means_nothing_for_the_cpu(tmp_path):
    run = session_run(open_session(graph(tmp_path / "g.onnx"), strict=True))
    np.testing.assert_array_equal(run({"x": np.ones((1, 2), np.float32)})["y"], [[2, 2]])


def test_nodes_are_known_where_they_are_recorded(tmp_path):
    path = graph(tmp_path / "g.onnx", op="Relu")
    recorded = assigned_nodes(open_session(path, record=True))
    assert sorted(recorded) == [("CPUExecutionProvider", "Add", "sum"), ("CPUExecutionProvider", "Relu", "")]
    assert not assigned_nodes(open_session(path))
    assert not assigned_nodes(object())  # an onnxruntime without the record


@needs_azure
def test_the_past_of_a_decoder_that_is_timed_stays_with_the_provider(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "DEVICES", {"AzureExecutionProvider": "cpu"})
    cache = [1, 2, "past", 4]
    nodes = [
        helper.make_node("Concat", ["past_key_values.0.key", "new"], ["present.0.key"], axis=2),
        helper.make_node("Identity", ["input_ids"], ["logits"]),
    ]
    ends = (("past_key_values.0.key", 1, cache), ("new", 1, [1, 2, 1, 4]), ("input_ids", 7, [1, 1]))
    outputs = (("present.0.key", 1, [1, 2, "total", 4]), ("logits", 7, [1, 1]))
    made = helper.make_graph(
        nodes, "g", *([helper.make_tensor_value_info(*each) for each in side] for side in (ends, outputs))
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "d.onnx")
    feeds = {
        "past_key_values.0.key": np.ones((1, 2, 3, 4), np.float32),
        "new": np.zeros((1, 2, 1, 4), np.float32),
        "input_ids": np.array([[5]]),
    }
    opened = open_session(tmp_path / "d.onnx", provider="azure")
    bound = {}
    monkeypatch.setattr(ort.InferenceSession, "run_with_iobinding", lambda _, binding: bound.update(it=binding))
    session.bound_run(opened, feeds)()
    opened._sess.run_with_iobinding(bound["it"]._iobinding, None)
    present, logits = (each.numpy() for each in bound["it"].get_outputs())
    assert present.shape == (1, 2, 4, 4)
    assert present.sum() == 24
    assert logits == [[5]]
    plain = session.bound_run(open_session(tmp_path / "d.onnx"), feeds)()
    np.testing.assert_array_equal(plain[0], present)


class Opener:
    """Stands in for `InferenceSession`: fails for every provider but the CPU, and remembers what it was asked."""

    def __init__(self, reason):
        self.reason, self.asked = reason, []

    def __call__(self, path, options, providers, enable_fallback):
        self.asked.append(providers)
        assert not enable_fallback
        if providers != ["CPUExecutionProvider"]:
            raise RuntimeError(self.reason)


def with_provider(monkeypatch, name, opener):
    monkeypatch.setattr(ort, "get_available_providers", lambda: [name, "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", opener)


def test_a_graph_that_only_the_provider_cannot_take_is_not_called_damaged(tmp_path, monkeypatch):
    opener = Opener(
        "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: /src/backend.cc:136 ov::Backend(int&)\n"
        "/src/interface.cc:28 auto ov::Boundary(Func&&) [with bool typed = false] [OpenVINO-EP] Cannot read: "
        "Check 'false' failed at src/frontend.cpp:221:\nno such operation: Zap"
    )
    with_provider(monkeypatch, "OpenVINOExecutionProvider", opener)
    said = r"'openvino' cannot take .*g\.onnx, which the CPU can: Cannot read: no such operation: Zap; choose another"
    with pytest.raises(InputError, match=said) as error:
        open_session(graph(tmp_path / "g.onnx"), provider="openvino", threads=3)
    one_line(error)
    assert opener.asked[0] == [("OpenVINOExecutionProvider", {"num_of_threads": "3"}), "CPUExecutionProvider"]


def test_a_provider_without_its_libraries_names_the_missing_one(tmp_path, monkeypatch):
    def fail(path):
        raise OSError("libmissing.so.9: cannot open shared object file")

    library = tmp_path / "capi" / "libonnxruntime_providers_cuda.so"
    write(library, "")
    with_provider(monkeypatch, "CUDAExecutionProvider", Opener("no CUDA"))
    monkeypatch.setattr(ort, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(session.ctypes, "CDLL", fail)
    said = r"'cuda' could not start here \(libmissing\.so\.9: .*\); others are cpu$"
    with pytest.raises(InputError, match=said) as error:
        open_session(graph(tmp_path / "g.onnx"), provider="cuda")
    one_line(error)


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


def test_affinity_is_of_logical_cores(monkeypatch):
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: {1, 3}, raising=False)
    assert cores.affinity() == {1, 3}
    monkeypatch.delattr(cores.os, "sched_getaffinity")
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 3)
    assert cores.affinity() == {0, 1, 2}


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
