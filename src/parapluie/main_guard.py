"""What workers make of `__main__`: whether they import it again, and what to say when it starts workers by itself.

A worker that starts by spawn or forkserver imports the parent's main module under the name `__mp_main__`. That works
for a script and for `python -m module`; it cannot work for a prompt, a notebook, `python -c` or standard input; and
it goes round in circles for a script that makes an executor outside of `if __name__ == "__main__":`.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager

from parapluie.errors import MissingMainGuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, ModuleType

# Python deletes `__main__.__file__` when the script has ended, which is before what it has submitted has.
_script: tuple[ModuleType, str | None] = sys.modules["__main__"], getattr(sys.modules["__main__"], "__file__", None)
_answer: tuple[ModuleType, bool] | None = None  # for which main module, and the answer; written in one step


def main_is_importable() -> bool:
    """Say whether workers that start by spawn or forkserver import this process's `__main__` again."""
    global _answer  # noqa: PLW0603 - there is one main module for the whole process
    main = sys.modules["__main__"]
    answer = _answer
    if answer is None or answer[0] is not main:  # IPython's %run puts another module there for a while
        _answer = answer = (main, _is_importable(main))
    return answer[1]


def _is_importable(main: ModuleType) -> bool:
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        # `python -m package` and `python folder` run a file __main__.py, which multiprocessing leaves alone.
        return name != "__main__" and not name.endswith(".__main__")
    file = getattr(main, "__file__", None)
    if file is None:
        return False
    # A frozen program has no file, but runs its main module itself, up to `freeze_support()`.
    # IPython's launcher is the other file that multiprocessing leaves alone.
    launcher = os.path.splitext(os.path.basename(file))[0] == "ipython"
    return (_is_real(file) or getattr(sys, "frozen", False)) and not launcher


def _is_real(file: str) -> bool:
    """Say whether a worker can read the file too: a device such as /dev/stdin is another one there."""
    if file.startswith(("/dev/", "/proc/")):
        return False
    from multiprocessing import process

    return os.path.isfile(os.path.join(getattr(process, "ORIGINAL_DIR", None) or "", file))


@contextmanager
def hidden_main() -> Iterator[None]:
    """Hide a `__main__.__file__` such as `<stdin>` while a process is started, so that nothing tries to run it.

    And show that of a script that has ended, so that workers that start at exit import it too.

    Thread safety: the caller holds a lock; two at a time would restore in the wrong order.
    """
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    script = _script[1] if main is _script[0] else None
    if file is None and script is not None and _is_real(script):
        main.__file__ = script
        try:
            yield
        finally:
            vars(main).pop("__file__", None)
        return
    if file is None or getattr(main, "__spec__", None) is not None or getattr(sys, "frozen", False) or _is_real(file):
        yield
        return
    main.__file__ = None  # not deleted: code in other threads may read the name meanwhile
    try:
        yield
    finally:
        main.__file__ = file


def in_main_import() -> bool:
    """Say whether this process is a worker that is at this moment importing the parent's main module."""
    process = sys.modules.get("multiprocessing.process")  # where it is not loaded, this is no worker
    return process is not None and getattr(process.current_process(), "_inheriting", False)


def check_main_guard() -> None:
    """Refuse to start workers from the import of the main module.

    Raises:
        MissingMainGuardError: if a worker is importing the main module now.
    """
    if in_main_import():
        raise _missing_guard()


def missing_guard_message() -> str | None:
    """Return what `check_main_guard` would say, or None if there is nothing to say."""
    return str(_missing_guard()) if in_main_import() else None


def _missing_guard() -> MissingMainGuardError:
    frame = _main_frame()
    if frame is None:
        return MissingMainGuardError()
    file = frame.f_code.co_filename
    line, statement = _statement(file, frame.f_lineno)
    return MissingMainGuardError(file, line, statement)


def _main_frame() -> FrameType | None:
    """Return the outermost frame of the main module: the one that is at the statement to move."""
    found = None
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - public in all but name
    while frame is not None:
        if frame.f_globals.get("__name__") == "__mp_main__":
            found = frame
        frame = frame.f_back
    return found


def _statement(file: str, line: int) -> tuple[int, str | None]:
    """Return where the top-level statement around a line begins, and its first line."""
    import ast
    import linecache

    lines = linecache.getlines(file)
    try:
        body = ast.parse("".join(lines)).body
    except (SyntaxError, ValueError):  # no source, or not what was run
        return line, None
    for statement in body:
        if statement.lineno <= line <= (statement.end_lineno or line):
            first = lines[statement.lineno - 1].strip()
            return statement.lineno, f"{first} ..." if statement.end_lineno != statement.lineno else first
    return line, None
