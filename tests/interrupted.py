"""Runs commands and stops each at a chosen moment: `python interrupted.py < commands.json > results.json`.

A command is `{"argv", "path", "signal"}`: when it opens a file for writing, or renames one, whose path holds `path`, it
gets the signal; when that path holds the optional `forbidden`, it exits with 98. Each runs in a fork of this process,
which has imported the heavy packages once and done no work.
"""

import json
import os
import pathlib
import sys
import tempfile


def outcome(command):
    with tempfile.TemporaryFile() as shown:
        child = os.fork()
        if child == 0:
            os.dup2(shown.fileno(), 1)
            os.dup2(shown.fileno(), 2)
            run(command)
        _, status = os.waitpid(child, 0)
        shown.seek(0)
        return {"code": os.waitstatus_to_exitcode(status), "shown": shown.read().decode()}


def run(command):
    from tledge import cli

    sent = []

    def stop(event, arguments):
        if event == "open" and isinstance(arguments[0], (str, os.PathLike)):
            path, writes = os.fspath(arguments[0]), "w" in str(arguments[1])
        elif event == "os.rename":
            path, writes = os.fspath(arguments[1]), True
        else:
            return
        place = pathlib.PurePath(str(path)).as_posix() + "$"
        if writes and command.get("forbidden", "\0") in place:
            os._exit(98)
        if writes and not sent and command["path"] in place:
            sent.append(path)
            os.kill(os.getpid(), command["signal"])

    sys.addaudithook(stop)
    sys.argv = ["tledge", *command["argv"]]
    code = 99
    try:
        cli.main()
    except SystemExit as exit_:
        code = exit_.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    import tledge.export
    import tledge.pipeline
    import tledge.train  # noqa: F401

    json.dump([outcome(command) for command in json.load(sys.stdin)], sys.stdout)
