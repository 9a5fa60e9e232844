"""What workers make of `__main__`: whether they import it again, and what to say when it starts workers by itself.

A worker that starts by spawn or forkserver imports the parent's main module under the name `__mp_main__`. That works
for a script and for `python -m module`; it cannot work for a prompt, a notebook, `python -c` or standard input; and
it goes round in circles for a script that makes an executor outside of `if __name__ == "__main__":`.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress

from parapluie.errors import MissingMainGuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Callable, Iterator
    from types import FrameType, ModuleType
    from typing import NoReturn

    from parapluie.dumps import DumpFile

# From 3.13.8 and 3.14.1 on, the server of `forkserver` imports a main module that is a file, and ends if that raises.
_SERVER_IMPORTS_MAIN = sys.version_info >= (3, 13, 8) and sys.version_info[:3] != (3, 14, 0)

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
    if getattr(sys, "frozen", False):
        return True  # it has no file, but a worker runs its main module itself, up to `freeze_support()`
    file = getattr(main, "__file__", None)
    if file is None:
        return False
    # IPython's launcher is the other file that multiprocessing leaves alone.
    launcher = os.path.splitext(os.path.basename(file))[0] == "ipython"
    return _is_real(file) and not launcher


def _is_real(file: str) -> bool:
    """Say whether a worker can read the file too: a device such as /dev/stdin is another one there."""
    if file.startswith(("/dev/", "/proc/")):
        return False
    from multiprocessing import process

    return os.path.isfile(os.path.join(getattr(process, "ORIGINAL_DIR", None) or "", file))


@contextmanager
def hidden_main(*, real: bool = False) -> Iterator[None]:
    """Hide a `__main__.__file__` such as `<stdin>` while a process is started, so that nothing tries to run it.

    And show that of a script that has ended, so that workers that start at exit import it too.

    Args:
        real: hide that of a script, too.

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
    importable = getattr(main, "__spec__", None) is not None or getattr(sys, "frozen", False)
    if file is None or importable or (_is_real(file) and not real):
        yield
        return
    main.__file__ = None  # not deleted: code in other threads may read the name meanwhile
    try:
        yield
    finally:
        main.__file__ = file


def must_be_hidden_from_server() -> bool:
    """Say whether the server of `forkserver`, if it is started now, would find that the guard is missing.

    That would end it, and nobody would hear why: workers have to find it. Where it looks so and is not, because the
    program keeps workers out in another way, each worker imports the main module by itself, as with any older Python.
    """
    frame = _main_frame("__main__") if _SERVER_IMPORTS_MAIN else None
    if frame is None:
        return False
    import ast

    statement = _statement(frame.f_code.co_filename, frame.f_lineno)
    if isinstance(statement, ast.If):
        return not mentions_name(statement.test)
    return statement is not None


def mentions_name(test: ast.expr) -> bool:
    """Say whether a test asks for `__name__`, as that of a main guard does."""
    import ast

    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(test))


def in_main_import() -> bool:
    """Say whether this process is a worker that is at this moment importing the parent's main module."""
    process = sys.modules.get("multiprocessing.process")  # where it is not loaded, this is no worker
    return process is not None and getattr(process.current_process(), "_inheriting", False)


def check_main_guard() -> None:
    """Refuse to start workers from the import of the main module.

    A process that is being started ends here: without a word if it is a worker of ours, since its parent says it then.

    Raises:
        MissingMainGuardError: if a worker is importing the main module now.
    """
    if getattr(sys, "frozen", False):
        _check_frozen()
    if in_main_import():
        import pickle

        from parapluie import stdlib_private

        error, rest = _missing_guard(), stdlib_private.rest_of_start()
        if rest is not None:
            _tell_parent(error, lambda: pickle.load(rest))
        raise error


def _check_frozen() -> None:
    """As `check_main_guard`, where a worker runs the program's own main module and should have left it by now."""
    from parapluie import frozen

    if frozen.was_started_as_worker():
        from parapluie import stdlib_private

        _tell_parent(_missing_guard("__main__", frozen=True), stdlib_private.receive_start)
    elif frozen.was_started_as_helper():
        _tell_parent(_missing_guard("__main__", frozen=True), lambda: None)


def _tell_parent(error: MissingMainGuardError, arrive: Callable[[], object]) -> NoReturn:
    """Leave the error for the parent and end this process, which is one that is being started.

    It could not be raised instead: a script that catches what its main function raises would say it once for each
    worker, and one that catches it and goes on would do its work again in each of them.

    Args:
        arrive: reads what this process was sent.
    """
    import pickle

    from parapluie import dumps

    # What comes behind the file may need the main module, and then cannot be read.
    if not dumps.note_on_arrival(pickle.dumps(error), arrive):
        sys.excepthook(type(error), error, None)  # a process that is not ours has no such file
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # it may be closed, or None
            stream.flush()
    os._exit(1)


def told_by_worker(file: DumpFile | None) -> MissingMainGuardError | None:
    """Return the error that a worker has left before it ended, if it did."""
    note = None if file is None else file.noted()
    if note is None:
        return None
    import pickle

    error: MissingMainGuardError = pickle.loads(note)
    return error


def is_unseen(error: BaseException | None) -> bool:
    """Say whether an error is a missing guard that nothing has raised in this process yet."""
    return isinstance(error, MissingMainGuardError) and error.__traceback__ is None


def say_at_exit(error: BaseException) -> None:
    """Have a missing guard logged when the program ends, unless it was raised by then: no other one may tell of it."""

    def say() -> None:
        if is_unseen(error):
            import logging

            logging.getLogger("parapluie").critical("%s: %s", type(error).__name__, error)

    import atexit

    atexit.register(say)


def missing_guard_message() -> str | None:
    """Return what `check_main_guard` would say, or None if there is nothing to say."""
    return str(_missing_guard()) if in_main_import() else None


def _missing_guard(name: str = "__mp_main__", *, frozen: bool = False) -> MissingMainGuardError:
    frame = _main_frame(name)
    if frame is None:
        return MissingMainGuardError(frozen=frozen)
    file, line = frame.f_code.co_filename, frame.f_lineno
    statement = None if frozen else _statement(file, line)  # a frozen one has no source, and the line may be anywhere
    if statement is None:
        return MissingMainGuardError(file, line, frozen=frozen)
    return MissingMainGuardError(file, statement.lineno, head_of(statement, file))


def head_of(statement: ast.stmt, file: str) -> str:
    """Return a statement's first line, and dots for the others."""
    import linecache

    more = " ..." if statement.end_lineno != statement.lineno else ""
    return linecache.getline(file, statement.lineno).strip() + more


def _main_frame(name: str) -> FrameType | None:
    """Return the outermost frame of the main module: the one that is at the statement to move.

    Args:
        name: what it is called in this process.
    """
    found = None
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - public in all but name
    while frame is not None:
        if frame.f_globals.get("__name__") == name:
            found = frame
        frame = frame.f_back
    return found


def _statement(file: str, line: int) -> ast.stmt | None:
    """Return the top-level statement around a line; None where there is no source, or not what was run."""
    import ast
    import linecache

    try:
        body = ast.parse("".join(linecache.getlines(file))).body
    except (SyntaxError, ValueError):
        return None
    return next((part for part in body if part.lineno <= line <= (part.end_lineno or line)), None)
