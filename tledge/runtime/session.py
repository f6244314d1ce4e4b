"""onnxruntime sessions: providers, threads, and their errors mapped once to this package's own."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import mmap
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from tledge import graph_file, past
from tledge.errors import BundleError, InputError, TledgeError, did_you_mean
from tledge.evaluate import Array, Run
from tledge.runtime.assignment import RECORD, Assigned, assigned_nodes
from tledge.runtime.cores import available_cores
from tledge.runtime.shape_arithmetic import shape_arithmetic

CPU = "CPUExecutionProvider"

PROVIDERS = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "tensorrt_rtx": "NvTensorRTRTXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "dnnl": "DnnlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "dml": "DmlExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "acl": "ACLExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "nnapi": "NnapiExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "vitisai": "VitisAIExecutionProvider",
    "cann": "CANNExecutionProvider",
    "rknpu": "RknpuExecutionProvider",
    "vsinpu": "VSINPUExecutionProvider",
    "azure": "AzureExecutionProvider",
}
"""Short names of execution providers; onnxruntime's full names are taken too.

Which of them there are depends on the installed build: `onnxruntime` itself has cpu, and coreml on a Mac;
`onnxruntime-gpu` cuda and tensorrt, `onnxruntime-openvino` openvino, `onnxruntime-directml` dml and
`onnxruntime-qnn` qnn. Recent releases know rocm no more: migraphx took its place. azure calls a service, and
runs no node of an ordinary graph.
"""

DEVICES = {
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "cuda",
    "NvTensorRTRTXExecutionProvider": "cuda",
    "DmlExecutionProvider": "dml",
}
"""Where the outputs of a provider can stay for the next step of a decoder; in the memory of the CPU for the others."""

_EXACT = "session.x64quantprecision"
"""onnxruntime then turns int8 weights into uint8 ones, whose kernels add in 32 bits; elsewhere it does nothing."""
COULD_NOT_RUN = "the graph could not run"
"""How messages begin of runs that failed."""

_NO_FALLBACK = "session.disable_cpu_ep_fallback"
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
"""Where the weights of a model are that is given as bytes."""
_REFUSED = re.compile(r"fallback to CPU EP has been explicitly disabled")
_TOO_NEW = re.compile(r"till opset \d+|max supported IR version: \d+|is not a registered function/op")
_THREADS = {PROVIDERS["openvino"]: "num_of_threads", PROVIDERS["xnnpack"]: "intra_op_num_threads"}
"""Options of providers that have a pool of threads of their own, which would else be as large as the host."""

_NAMED = 5
"""Operator types that an error names at most."""


def open_session(
    path: Path,
    *,
    provider: str = "cpu",
    threads: int | None = None,
    strict: bool = False,
    record: bool = False,
    profile: Path | None = None,
    exact: bool = False,
) -> ort.InferenceSession:
    """A session for one graph file.

    Args:
        path: The ONNX file.
        provider: A key of `PROVIDERS` or onnxruntime's own name. Nodes that it cannot run go to the CPU, but
            a provider that cannot start at all is an error, never a silent fall back.
        threads: Threads of one run (the intra-op pool); by default `available_cores()`, not the host's cores.
        strict: Make a single node that would go to the CPU an error, shape arithmetic aside. The CPU as provider has
            nothing to fall back to, so that it means nothing there.
        record: Remember which provider each node was given to, for `assigned_nodes`; older releases cannot.
        exact: Compute products of uint8 and int8 without an overflow, more slowly, on processors where they could.
        profile: Time every node; `end_profiling` of the session writes a JSON file whose path begins with this.

    Raises:
        InputError: the provider is unknown, cannot start here or cannot take this graph, it is strict and
            leaves nodes to the CPU, or `threads` is below 1.
        BundleError: the file is missing, damaged, or needs a newer onnxruntime.
    """
    name = provider_name(provider)
    if threads is not None and threads < 1:
        raise InputError(f"threads must be 1 or more, got {threads}")
    if not path.is_file():
        raise BundleError(f"{path} is missing: expected an ONNX file")
    _require_own_weights(path)
    alone = strict and name != CPU
    options = _options(threads)
    if record or alone:
        options.add_session_config_entry(RECORD, "1")
    if exact:
        options.add_session_config_entry(_EXACT, "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        session = _session(path, options, name)
    except Exception as error:  # onnxruntime's exceptions share no other base
        raise _opening_failed(path, provider, error) from error
    if name not in session.get_providers():
        raise _not_started(provider, _missing_library(name))
    if alone:
        _require_no_work_on_the_cpu(session, path, provider)
    return session


def left_to_the_cpu(session: ort.InferenceSession, path: Path) -> tuple[Counter[str], Counter[str]]:
    """Nodes that a session's provider leaves to the CPU, by operator type: shape arithmetic, and work on rows.

    Both are empty where the provider is the CPU, and where `assigned_nodes` does not know the nodes.

    Args:
        session: Opened with `record` or `strict`.
        path: Its graph file.
    """
    provider = session.get_providers()[0]
    nodes = [node for node in assigned_nodes(session) if node.provider == CPU != provider]
    if not nodes:
        return Counter(), Counter()
    model = graph_file.load(path)
    shapes = _by_operator(shape_arithmetic(model, nodes, functools.partial(_sizes, model, path.parent, provider)))
    return shapes, _by_operator(nodes) - shapes


def session_run(session: ort.InferenceSession) -> Run:
    """One pass of a session as a function of input tensors by name, giving output tensors by name.

    Only the inputs that the graph has are fed, so that one preprocessing serves graphs with and without token
    types. The function is safe to call from several threads. It raises `BundleError` for an input that
    preprocessing does not give or a run that fails, and `InputError` for a tensor of a wrong shape or type.
    """
    inputs = [tensor.name for tensor in session.get_inputs()]
    outputs = [tensor.name for tensor in session.get_outputs()]

    def run(tensors: Mapping[str, Array]) -> dict[str, Array]:
        missing = [name for name in inputs if name not in tensors]
        if missing:
            raise BundleError(f"the graph needs the input {missing[0]!r}, got {', '.join(tensors)}")
        try:
            results = session.run(outputs, {name: tensors[name] for name in inputs})
        except Exception as error:  # onnxruntime's exceptions share no other base
            raise run_failed(error) from error
        for name, result in zip(outputs, results, strict=True):
            if not isinstance(result, np.ndarray) or result.dtype.kind not in "biuf":
                raise BundleError(f"the graph gives no tensor of numbers as {name!r:.60}")
        return dict(zip(outputs, results, strict=True))

    return run


def run_failed(error: Exception) -> TledgeError:
    """This package's error for what a session raised when it ran."""
    kind = InputError if type(error).__name__ == "InvalidArgument" else BundleError
    return kind(f"{COULD_NOT_RUN}: {_reason(error)}")


def bound_run(session: ort.InferenceSession, tensors: Mapping[str, Array]) -> Callable[[], object]:
    """One pass over the same input tensors again and again, with nothing around it that would be timed too.

    A decoder's past is where the provider would have left it, and what becomes of it stays there.

    Raises:
        BundleError, InputError: as a run of `session_run`, which a first pass goes through.
    """
    session_run(session)(tensors)
    outputs = [tensor.name for tensor in session.get_outputs()]
    kept = {spec.name for spec in past.past_specs(session.get_inputs())}
    device = DEVICES.get(session.get_providers()[0])
    if not kept or device is None:
        return functools.partial(session.run, outputs, {t.name: tensors[t.name] for t in session.get_inputs()})
    binding = session.io_binding()
    for name in (tensor.name for tensor in session.get_inputs()):
        array = np.ascontiguousarray(tensors[name])
        if name in kept:
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, device, 0))
        else:
            binding.bind_cpu_input(name, array)
    becomes = {past.present_name(name) for name in kept}
    for name in outputs:
        binding.bind_output(name, device if name in becomes else "cpu")
    return functools.partial(session.run_with_iobinding, binding)


def available_providers() -> list[str]:
    """The providers of the installed onnxruntime, by short name where there is one."""
    short = {name: key for key, name in PROVIDERS.items()}
    return [short.get(name, name) for name in ort.get_available_providers()]


def provider_name(provider: str) -> str:
    """The full name of a provider that is available here.

    Raises:
        InputError: there is no such provider, or the installed onnxruntime is built without it.
    """
    name = PROVIDERS.get(provider.lower(), provider)
    if name in ort.get_available_providers():
        return name
    known = available_providers()
    meant = name in PROVIDERS.values() or name in ort.get_all_providers()
    what = "is not in this build of onnxruntime" if meant else "is not known"
    raise InputError(
        f"the provider {provider!r} {what}; available are {', '.join(known)}{did_you_mean(provider, known)}"
    )


def require_provider(provider: str) -> None:
    """Nothing, where a session on a provider starts here.

    Raises:
        InputError: there is no such provider, the installed onnxruntime is built without it, or it cannot start.
    """
    name = provider_name(provider)
    try:
        started = name in _session(graph_file.identity(), _options(1), name).get_providers()
    except Exception as error:  # onnxruntime's exceptions share no other base
        raise _not_started(provider, _missing_library(name)) from error
    if not started:
        raise _not_started(provider, _missing_library(name))


def _require_own_weights(path: Path) -> None:
    """Refuse a graph with weights outside its folder, which older releases of onnxruntime read; cheap where it has all.

    Raises:
        BundleError: a file of weights is missing or elsewhere.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            return  # onnxruntime says what it is
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            apart = content.find(b"location") >= 0  # the key of the file's name
    if apart and (lacking := _missing_weights(path)) is not None:
        raise lacking


def _options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = available_cores() if threads is None else threads
    options.inter_op_num_threads = 1
    # Idle threads that spin on would take cores from whatever runs next: another session, or torch beside it.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Its warnings are about how a graph was made, which the user cannot mend; its errors reach us as exceptions,
    # and the user should read them once.
    options.log_severity_level = 4
    return options


def _session(
    model: Path | bytes, options: ort.SessionOptions, name: str, *, fallback: bool = True
) -> ort.InferenceSession:
    given = model if isinstance(model, bytes) else str(model)
    open_with = functools.partial(ort.InferenceSession, given, options, enable_fallback=False)
    if name == CPU:
        return open_with(providers=[CPU])
    own = {_THREADS[name]: str(options.intra_op_num_threads)} if name in _THREADS else {}
    # A provider that cannot start says so to the process's own log, in many lines; ours is one line.
    ort.set_default_logger_severity(4)
    try:
        return open_with(providers=[(name, own), *((CPU,) if fallback else ())])
    finally:
        ort.set_default_logger_severity(2)  # onnxruntime's own default, which cannot be asked for


def _not_started(provider: str, library: str) -> InputError:
    why = library or "often for want of its driver, its device or its libraries"
    others = [short for short in available_providers() if PROVIDERS.get(short, short) != provider_name(provider)]
    return InputError(f"the provider {provider!r} could not start here ({why}); others are {', '.join(others)}")


def _missing_library(name: str) -> str:
    """Which shared library a provider lacks, in the system's words; empty when nothing is known to be missing."""
    short = name.removesuffix("ExecutionProvider").lower()
    for path in Path(ort.__file__).parent.glob(f"capi/libonnxruntime_providers_{short}.so"):
        try:
            ctypes.CDLL(str(path))
        except OSError as error:
            # Without onnxruntime around it, a library with everything it needs lacks only a symbol of that.
            return "" if "undefined symbol" in str(error) else str(error)
    return ""


def _require_no_work_on_the_cpu(session: ort.InferenceSession, path: Path, provider: str) -> None:
    nodes = assigned_nodes(session)
    shapes, rows = left_to_the_cpu(session, path)
    if not nodes:
        _require_no_fallback(path, provider)
    if rows:
        named = [f"{operator} {count}" for operator, count in rows.most_common(_NAMED)]
        rest = [f"{len(rows) - _NAMED} more types"] if len(rows) > _NAMED else []
        beside = f", beside {shapes.total()} of shape arithmetic" if shapes else ""
        what = f"{rows.total()} of {len(nodes)} nodes of {path} ({', '.join((*named, *rest))}{beside})"
        raise _not_strict(provider, what)


def _require_no_fallback(path: Path, provider: str) -> None:
    """What a strict session is held to by an onnxruntime that does not tell of nodes: none may go to the CPU."""
    options = _options(1)
    options.add_session_config_entry(_NO_FALLBACK, "1")
    try:
        # The CPU must not be in the list of providers; onnxruntime adds it by itself.
        _session(path, options, provider_name(provider), fallback=False)
    except Exception as error:  # onnxruntime's exceptions share no other base
        if _REFUSED.search(str(error)):
            what = f"some nodes of {path} (onnxruntime {ort.__version__} does not tell which)"
            raise _not_strict(provider, what) from error
        raise _opening_failed(path, provider, error) from error


def _not_strict(provider: str, what: str) -> InputError:
    return InputError(
        f"the provider {provider!r} cannot run {what}: leave --strict-provider out to run them on the CPU, "
        "or change the graph"
    )


def _by_operator(nodes: Iterable[Assigned]) -> Counter[str]:
    return Counter(node.operator for node in nodes)


def _sizes(model: Any, folder: Path, provider: str, names: Sequence[str]) -> dict[str, int]:
    """The number of elements of tensors inside a graph, as far as onnxruntime knows it before a run.

    It tells the shapes of outputs alone, so that they are made outputs; and a shape of `[]` where there are no
    dimensions and where it knows of none, so that each one's own shape is asked for too. A graph that it cannot open
    then has none.
    """
    ours = {value.name for value in model.graph.output}
    shape_of = {name: f"shape of {name}" for name in names}
    for name, shape in shape_of.items():
        model.graph.node.add(op_type="Shape", input=[name], output=[shape])
        for each in (name, shape):
            if each not in ours:
                model.graph.output.add(name=each)
    options = _options(1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry(_WEIGHTS_FOLDER, str(folder))
    outputs = []
    with contextlib.suppress(Exception):  # onnxruntime's exceptions share no other base
        outputs = _session(model.SerializeToString(), options, provider).get_outputs()
    known = {each.name: each.shape for each in outputs if all(isinstance(size, int) for size in each.shape)}
    return {
        name: math.prod(known[name])
        for name, shape in shape_of.items()
        if name in known and known.get(shape) == [len(known[name])]
    }


def _opening_failed(path: Path, provider: str, error: Exception) -> TledgeError:
    reason = _reason(error)
    if _TOO_NEW.search(str(error)):
        return BundleError(f"{path} needs a newer onnxruntime than {ort.__version__}: {reason}")
    if lacking := _missing_weights(path):
        return lacking
    name = provider_name(provider)
    if name != CPU and (library := _missing_library(name)):
        return _not_started(provider, library)
    if name != CPU and _opens_on_the_cpu(path):
        return InputError(
            f"the provider {provider!r} cannot take {path}, which the CPU can: {reason}; choose another provider"
        )
    return BundleError(f"{path} cannot be opened by onnxruntime {ort.__version__}: {reason}")


def _missing_weights(path: Path) -> BundleError | None:
    """What a graph lacks whose weights are in other files, if it does and can be read."""
    with contextlib.suppress(BundleError):  # of a damaged file, onnxruntime says more
        graph_file.external_files(path)
        try:
            graph_file.files_beside(path)
        except BundleError as lacking:
            return lacking
    return None


def _opens_on_the_cpu(path: Path) -> bool:
    with contextlib.suppress(Exception):  # onnxruntime's exceptions share no other base
        _session(path, _options(1), CPU)
        return True
    return False


def _reason(error: Any) -> str:
    """The message without onnxruntime's error code, its own source's file names, and the path we print."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^Load model from .*? failed: ?", "", text)
    text = re.sub(r"^(?:Exception during initialization: )?\S+\.(?:h|cc|cpp):\d+ .*?\) (?=[A-Z])", "", text)
    text = re.sub(r"^Exception during initialization: .*\.(?:h|cc|cpp):\d+ .*\[[\w-]+-EP\] ", "", text)
    text = re.sub(r"Check '.*?' failed at \S+:\d+: ", "", text)
    opset = re.search(r"Opset (\d+) is under development.* till opset (\d+)", text)
    if opset:
        text = f"the graph's opset {opset[1]} is above {opset[2]}"
    return text if len(text) <= 200 else text[:197] + "..."
