"""Folders with spaces, files with letters of any script: programs, packages, configuration, journals, what is said."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

NAME = "Jürgen's Ordner (1) & 日本"

PACKAGE = """\
import os
import tempfile


def square(n):
    return n * n


def crash(n):
    os.abort()


def places():
    # What a worker keeps in files goes here, too.
    with tempfile.NamedTemporaryFile() as file:
        return [os.path.basename(os.getcwd()), os.path.basename(os.path.dirname(file.name))]


def refuse(n):
    raise ValueError(f"nicht {n}: Größe 大")
"""

PROGRAM = """\
import os
import sys
from parapluie import Executor
from first_day_help import backend, method
from größen.messung import crash, places, refuse, square


def main():
    with Executor(start_method=method) as executor:
        assert f"backend={backend!r} max_workers=2" in repr(executor), executor
        print(*executor.map(square, range(4), journal="größen 日.journal"))
        print(*executor.submit(places).result(), sep="|")
        error = executor.submit(refuse, 1).exception()
        print(error)
        assert any("größen" in str(one) and "messung.py" in str(one) for one in [error.__cause__]), error.__cause__
        error = executor.submit(crash, 1).exception()
        print(type(error).__name__, error.dump.count("in crash"))
        executor.shared.dict(größe=1)
        try:
            Executor(start_method=method, max_workers=0)
        except Exception as error:
            print(error)


if __name__ == "__main__":
    main()
"""


@pytest.fixture
def short_folder():
    """A folder for temporary files whose path is short: POSIX has sockets in there, whose paths have a limit."""
    with tempfile.TemporaryDirectory(prefix="temporär 一時 ") as path:
        yield Path(path)


def test_program_works_in_such_a_folder(row, folder, short_folder):
    home = folder.path / NAME
    folder.write(f"{NAME}/programm größe.py", PROGRAM)
    folder.write(f"{NAME}/größen/__init__.py", "")
    folder.write(f"{NAME}/größen/messung.py", PACKAGE)
    settings = f'# größe\r\nbackend = "{row.backend}"\r\nmax_workers = 2\r\n'
    (home / "parapluie.toml").write_text(settings, encoding="utf-8", newline="")
    temporary = short_folder
    done = folder.run("programm größe.py", cwd=home, **dict.fromkeys(("TMP", "TEMP", "TMPDIR"), str(temporary)))
    assert (done.exit_code, done.stderr) == (0, ""), done.stderr
    squares, places, refused, crashed, zero = done.stdout.splitlines()
    assert (squares, refused) == ("0 1 4 9", "nicht 1: Größe 大")
    assert places == f"{NAME}|{temporary.name}"
    assert crashed == "WorkerLostError 1"
    assert zero.startswith("max_workers=0 is out of range")
    assert (home / "größen 日.journal").exists()
    assert list(temporary.iterdir()) == []


def test_problem_of_a_configuration_file_names_it(row, folder):
    home = folder.path / NAME
    file = folder.write(f"{NAME}/parapluie.toml", "max_workers = 0\n")
    folder.write(f"{NAME}/program.py", "from parapluie import Executor\nExecutor()\n")
    done = folder.run("program.py", cwd=home)
    assert done.exit_code == 1
    assert f"ConfigFileError: {file}: line 1: max_workers: found 0" in done.stderr


def test_missing_guard_names_the_file(row, folder):
    file = folder.write(
        f"{NAME}/skript größe.py",
        "from first_day_help import make, note_run\nnote_run()\nmake().submit(abs, 1).result()\n",
    )
    folder.run(file).assert_guard_missing(file, 3, "make().submit(abs, 1).result()")


PRINTS = """\
from first_day_help import make, note_run

def shout(text):
    print(text)
    return text

if __name__ == "__main__":
    with make(1, capture_output=True) as executor:
        future = executor.submit(shout, "größer als 大")
        print(future.result() == "größer als 大", future.output == "größer als 大\\n")
        future = executor.submit(exec, "raise ValueError('大')")
        print(ascii(str(future.exception())))
        raise future.exception()
"""


def test_console_of_an_old_code_page_costs_no_task_its_output(row, folder):
    """What a task prints is kept whole, though the console of this program could not show it."""
    file = folder.write("program.py", PRINTS)
    done = folder.run(file, PYTHONIOENCODING="cp1252")
    assert done.stdout.splitlines() == ["True True", r"'\u5927'"], done.stderr
    assert r"ValueError: \u5927" in done.stderr and done.exit_code == 1
