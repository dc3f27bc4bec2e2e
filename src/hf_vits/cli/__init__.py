"""The `hf-vits` command.

Each command is a module of this package: its docstring is what `--help` says, `configure` declares its arguments,
`run` does the work and returns a result that JSON can hold, `show` prints that result for a person. Nothing heavier
than argparse is imported before a command runs.
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
    "list": ("listing", "systems and their published variants"),
    "info": ("info", "configuration, size, cost, labels and preprocessing of one model"),
    "convert": ("convert", "an original checkpoint to a model that from_pretrained loads"),
    "train": ("train", "the training run that a recipe describes"),
    "evaluate": ("evaluate", "accuracy on labelled inputs, by a classifier or by features"),
    "predict": ("predict", "the classes of image files and folders"),
    "push": ("push", "a saved model to the Hub"),
}
INPUT_ERRORS = (ValueError, TypeError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str):
        self.exit(2, f"error: {message}; `{self.prog} --help` explains\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (by default the process's own); returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] not in COMMANDS and not argv[0].startswith("-"):
        close = get_close_matches(argv[0], COMMANDS, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        return fail(f"unknown command {argv[0]!r}{hint}; there are {', '.join(COMMANDS)}", 2)
    args = build_parser(argv[:1]).parse_args(argv)
    module = command_module(args.command)
    # OpenMP's threads otherwise spin while they wait for one another. Read once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # libraries print; stdout is for the result alone
            result = module.run(args)
        if args.json:
            print(json.dumps(result, indent=2))
        else:
            module.show(result)
        sys.stdout.flush()
    except BrokenPipeError:  # `hf-vits list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except Exception as error:
        if args.debug:
            raise
        return fail(message_of(error), 2 if is_about_input(error) else 1)
    return 0


def fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def is_about_input(error: Exception) -> bool:
    """Whether the user can put it right. An OSError about a file's content has neither errno nor another cause."""
    from huggingface_hub.errors import StrictDataclassError  # of a configuration field

    own = isinstance(error, OSError) and error.errno is None and error.__cause__ is None
    return own or isinstance(error, (*INPUT_ERRORS, StrictDataclassError))


def message_of(error: Exception) -> str:
    """The message of an error on one line; of an unforeseen one also where to learn more."""
    text = " ".join(" ".join([str(error), *getattr(error, "__notes__", ())]).split())
    if text and (isinstance(error, OSError) or is_about_input(error)):
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"


def build_parser(wanted: Sequence[str]) -> Parser:
    """The parser of all commands; only that of the `wanted` one knows its arguments."""
    parser = Parser(
        prog="hf-vits",
        description="Vision transformers between their papers' checkpoints, Hugging Face transformers and the Hub.",
        epilog="`hf-vits COMMAND --help` explains a command. Results go to stdout, progress and messages to stderr; "
        "with --json a result is JSON. Exit code: 0 done, 2 wrong usage or input, 1 any other failure.",
    )
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
        command.add_argument("--debug", action="store_true", help="on an error show the whole traceback")
    return parser


def command_module(name: str):
    return importlib.import_module(f".{COMMANDS[name][0]}", __name__)
