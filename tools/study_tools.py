"""What tune.py and peers.py share: exit codes, the virtual environment of `./dev setup study`, whole files."""
import argparse
import importlib
import os
import pathlib
import sys
import tempfile
import typing

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXIT_FAILED, EXIT_USAGE, EXIT_BAD_DATA, EXIT_MISSING, EXIT_NO_MODULE = 1, 64, 65, 66, 69
EXIT_CANNOT_CREATE, EXIT_IO, EXIT_STOPPED, EXIT_CONFIG = 73, 74, 75, 78


class ToolError(Exception):
    """What a person can act on; ends the tool with `code`."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


class Parser(argparse.ArgumentParser):
    """With the exit code that onpa has for a wrong command line."""

    def error(self, message: str) -> typing.NoReturn:
        sys.stderr.write(f"{self.prog}: {message}; see {self.prog} --help\n")
        sys.exit(EXIT_USAGE)


def venv_python() -> pathlib.Path:
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return pathlib.Path(os.environ.get("ONPA_STUDY_VENV") or os.path.join(data, "onpa", "study")) / "bin" / "python"


def need(*modules: str) -> None:
    """Imports what a tool needs; where it is missing, starts the tool anew in the environment that has it."""
    missing = []
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if not missing:
        return
    python = venv_python()
    if os.access(python, os.X_OK) and os.environ.get("ONPA_STUDY_STARTED") != str(python):
        os.environ["ONPA_STUDY_STARTED"] = str(python)
        os.execv(python, [str(python), *sys.argv])
    raise ToolError(EXIT_NO_MODULE, f"{sys.executable} has no {', '.join(missing)}: run './dev setup study', which "
                                    f"installs it into {python.parent.parent} (or into ONPA_STUDY_VENV)")


def make_folder(path: pathlib.Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(EXIT_CANNOT_CREATE, f"cannot create {path}: {error.strerror}") from error


def write_atomic(path: pathlib.Path, text: str) -> None:
    """`path` is whole or as it was."""
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".tmp-{path.name}-")
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise ToolError(EXIT_IO, f"cannot write {path}: {error.strerror}") from error


def run_tool(name: str, main: typing.Callable[[], int]) -> typing.NoReturn:
    try:
        code = main()
        sys.stdout.flush()
    except ToolError as error:
        sys.stderr.write(f"{name}: {error}\n")
        code = error.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at the end has nobody to reach
        code = EXIT_IO
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
