"""The `hf-vits` command.

Each command is a module of this package: its docstring is the text of `--help`, `configure` declares its arguments,
`run` does the work and returns a JSON-serialisable result, `show` prints that result as tables. Only argparse is
imported before a command runs, so `--help` is fast.
"""

import argparse
import contextlib
import importlib
import json
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches

# {command: (module, summary)}
COMMANDS = {
    "list": ("listing", "list the architectures and their published variants"),
    "info": ("info", "class, size, cost, labels, preprocessing and configuration of a model"),
    "convert": ("convert", "convert an original checkpoint to a model that from_pretrained loads"),
    "recipes": ("recipes", "list the recipes that come with the package, or copy one"),
    "check": ("check", "decode every file of a data set and name those that are damaged"),
    "train": ("train", "run the training that a recipe describes"),
    "evaluate": ("evaluate", "measure accuracy on labelled inputs, by a classifier or from features"),
    "claims": ("claims", "check claims of papers: train both sides with several seeds, and say what held"),
    "inspect": ("inspect", "report what image models have learned, as tables, pictures and a page"),
    "predict": ("predict", "classes of images, videos and recordings, objects and masks in images, text of speech"),
    "demo": ("demo", "a page in the browser to try a model on your own inputs"),
    "export": ("export", "write a saved model as ONNX, checked in onnxruntime"),
    "push": ("push", "push a saved model to the Hub"),
}
INPUT_ERRORS = (ValueError, TypeError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


class Parser(argparse.ArgumentParser):
    """An argument parser that prints errors on one line."""

    def error(self, message: str):
        self.exit(2, f"error: {message}; `{self.prog} --help` explains\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default `sys.argv`, and return the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] not in COMMANDS and not argv[0].startswith("-"):
        close = get_close_matches(argv[0], COMMANDS, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        return fail(f"unknown command {argv[0]!r}{hint}; there are {', '.join(COMMANDS)}", 2)
    parser = build_parser(argv[:1])
    args, rest = parser.parse_known_args(argv)
    # argparse takes the positional arguments before the first option only; changes of a recipe may also follow one.
    if rest and not (hasattr(args, "overrides") and all("=" in text and text[0] != "-" for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.overrides += rest
    module = command_module(args.command)
    # Otherwise OpenMP's threads use the CPU while they wait. Torch reads it once, when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # libraries print too, but stdout is for the result
            result = module.run(args)
        if args.json:
            print(json.dumps(result, indent=2))
        else:
            module.show(result)
        sys.stdout.flush()
        return module.exit_code(result) if hasattr(module, "exit_code") else 0
    except BrokenPipeError:  # `hf-vits list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except Exception as error:
        if args.debug:
            raise
        return fail(message_of(error), 2 if is_about_input(error) else 1)


def fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def is_about_input(error: Exception) -> bool:
    """Return whether an error is about the user's input.

    An OSError about the content of a file, which this library raises, has no errno and no cause.
    """
    from huggingface_hub.errors import StrictDataclassError  # raised for configuration fields

    own = isinstance(error, OSError) and error.errno is None and error.__cause__ is None
    return own or isinstance(error, (*INPUT_ERRORS, StrictDataclassError))


def message_of(error: Exception) -> str:
    """Return the message of an error on one line; for an unexpected one, with its type and how to debug it."""
    text = " ".join(" ".join([str(error), *getattr(error, "__notes__", ())]).split())
    if text and (isinstance(error, OSError) or is_about_input(error)):
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"


def build_parser(wanted: Sequence[str]) -> Parser:
    """Build the parser of all commands; only the commands in `wanted` get their arguments, to import no others."""
    parser = Parser(
        prog="hf-vits",
        description="Convert, train, measure, use and share vision, audio and video transformers.",
        epilog="`hf-vits COMMAND --help` explains a command. Results go to stdout, progress and messages to stderr; "
        "with --json a result is JSON. Exit code: 0 for success, 2 for wrong usage or input, 1 for any other failure.",
    )
    from hf_vits import __version__

    parser.add_argument("--version", action="version", version=f"hf-vits {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, summary) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        if name in wanted:
            module = command_module(name)
            command.description = module.__doc__
            module.configure(command)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
        command.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    return parser


def command_module(name: str):
    return importlib.import_module(f".{COMMANDS[name][0]}", __name__)
