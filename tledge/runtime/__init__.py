"""The device side: a bundle is opened, run and verified with onnxruntime, tokenizers and numpy alone."""

from tledge.runtime.generate import Generated, Generator
from tledge.runtime.predictor import Predictor
from tledge.runtime.session import open_session, session_run
from tledge.runtime.verify import Check, Verification, verify

__all__ = ["Check", "Generated", "Generator", "Predictor", "Verification", "open_session", "session_run", "verify"]
