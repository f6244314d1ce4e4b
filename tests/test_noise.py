"""Where other libraries' talk goes while a stage runs."""

import io
import logging
import subprocess
import sys
import warnings

import pytest

from tledge import captured


def test_all_talk_goes_to_the_log(capfd):
    log = io.StringIO()
    kept = logging.getLogger("transformers.trainer")
    with captured.to(log):
        print("printed")  # noqa: T201
        print("on the error stream", file=sys.stderr)  # noqa: T201
        logging.getLogger("some.library").warning("logged")
        kept.warning("logged with a handler of its own")
    text = log.getvalue()
    for line in ("printed\n", "on the error stream\n", "WARNING some.library: logged\n"):
        assert line in text
    assert text.count("logged with a handler of its own") == 1
    assert capfd.readouterr() == ("", "")


def test_warnings_go_to_the_log():
    code = (  # in a process of its own, since pytest has hands on warnings
        "import io, warnings; from tledge import captured; log = io.StringIO()\n"
        "with captured.to(log): warnings.warn('a warning')\n"
        "assert 'UserWarning: a warning' in log.getvalue()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_all_is_as_before(capfd):
    root, own = logging.getLogger(), logging.getLogger("transformers")
    before = (list(root.handlers), list(own.handlers), own.propagate, sys.stdout, list(warnings.filters))
    with pytest.raises(ZeroDivisionError), captured.to(io.StringIO()):
        _ = 1 / 0
    assert (list(root.handlers), list(own.handlers), own.propagate, sys.stdout, list(warnings.filters)) == before
    print("back")  # noqa: T201
    assert capfd.readouterr().out == "back\n"


def test_a_stream_that_was_opened_before_keeps_the_screen(capfd):
    stream, log = sys.stderr, io.StringIO()
    with captured.to(log):
        stream.write("a bar\n")
    assert capfd.readouterr().err == "a bar\n"
    assert log.getvalue() == ""
