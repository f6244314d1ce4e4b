"""onnxruntime sessions: providers, threads, and their errors mapped once to this package's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort

from tledge.errors import BundleError, InputError, did_you_mean
from tledge.evaluate import Array, Run
from tledge.runtime.cores import available_cores

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "dml": "DmlExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "nnapi": "NnapiExecutionProvider",
}
"""Short names of execution providers; onnxruntime's full names are taken too."""

_TOO_NEW = re.compile(r"till opset \d+|max supported IR version: \d+|is not a registered function/op")


def open_session(path: Path, *, provider: str = "cpu", threads: int | None = None) -> ort.InferenceSession:
    """A session for one graph file.

    Args:
        path: The ONNX file.
        provider: A key of `PROVIDERS` or onnxruntime's own name. Nodes that it cannot run go to the CPU, but
            a provider that cannot start at all is an error, never a silent fall back.
        threads: Threads of one run (the intra-op pool); by default `available_cores()`, not the host's cores.

    Raises:
        InputError: the provider is unknown or cannot start here, or `threads` is below 1.
        BundleError: the file is missing, damaged, or needs a newer onnxruntime.
    """
    name = provider_name(provider)
    if threads is not None and threads < 1:
        raise InputError(f"threads must be 1 or more, got {threads}")
    if not path.is_file():
        raise BundleError(f"{path} is missing: expected an ONNX file")
    options = ort.SessionOptions()
    options.intra_op_num_threads = available_cores() if threads is None else threads
    options.inter_op_num_threads = 1
    # Idle threads that spin on would take cores from whatever runs next: another session, or torch beside it.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # its warnings are about how a graph was made, which the user cannot mend
    try:
        session = ort.InferenceSession(
            str(path), options, providers=list(dict.fromkeys([name, PROVIDERS["cpu"]])), enable_fallback=False
        )
    except Exception as error:  # onnxruntime's exceptions share no other base
        raise BundleError(_opening_failed(path, error)) from error
    if name not in session.get_providers():
        raise InputError(
            f"the provider {provider!r} could not start here, often for want of its driver or libraries; "
            f"available are {', '.join(available_providers())}"
        )
    return session


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
            kind = InputError if type(error).__name__ == "InvalidArgument" else BundleError
            raise kind(f"the graph could not run: {_reason(error)}") from error
        return dict(zip(outputs, results, strict=True))

    return run


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
    what = "is not in this build of onnxruntime" if name in ort.get_all_providers() else "is not known"
    raise InputError(
        f"the provider {provider!r} {what}; available are {', '.join(known)}{did_you_mean(provider, known)}"
    )


def _opening_failed(path: Path, error: Exception) -> str:
    reason = _reason(error)
    if _TOO_NEW.search(str(error)):
        return f"{path} needs a newer onnxruntime than {ort.__version__}: {reason}"
    return f"{path} cannot be opened by onnxruntime {ort.__version__}: {reason}"


def _reason(error: Any) -> str:
    """The message without onnxruntime's error code, its own source's file names, and the path we print."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^Load model from .*? failed: ?", "", text)
    text = re.sub(r"^\S+\.(?:h|cc|cpp):\d+ .*?\) (?=[A-Z])", "", text)
    opset = re.search(r"Opset (\d+) is under development.* till opset (\d+)", text)
    if opset:
        text = f"the graph's opset {opset[1]} is above {opset[2]}"
    return text if len(text) <= 200 else text[:197] + "..."
