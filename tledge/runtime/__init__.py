"""The device side: a bundle is opened and run with onnxruntime, tokenizers and numpy alone."""

from tledge.runtime.session import open_session, session_run

__all__ = ["open_session", "session_run"]
