"""Command lines that run in process."""

import contextlib
import io
import json

from hf_vits.cli import main


def command(*arguments) -> tuple[int, str, str]:
    """Run a command line and return exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as left:  # argparse's own
            code = left.code
    return code, out.getvalue(), err.getvalue()


def result_of(*arguments):
    """Run a command with --json and return its result; nothing else may be on stdout."""
    code, out, err = command(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def error_of(*arguments, code: int = 2) -> str:
    """Run a command that fails and return its error, one line, the last on stderr; nothing may be on stdout."""
    found, out, err = command(*arguments)
    assert (found, out) == (code, ""), err
    *_, last = err.rstrip("\n").replace("\r", "\n").split("\n")
    assert last.startswith("error: "), err
    assert "Traceback" not in err
    return last
