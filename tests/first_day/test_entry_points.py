"""Every way to start a program: workers import the main module where it is a file, and never where it is none."""

from __future__ import annotations

import os
import zipapp

import pytest

MAIN = """\
from first_day_help import make, note_run

def square(n):
    return n * n

note_run()
with make() as executor:
    print(executor.submit(square, 3).result(), *executor.map(lambda n: n + 1, range(3)))
"""
LINE, STATEMENT = 7, "with make() as executor: ..."
WORKED = ("9", "1", "2", "3")


def assert_ran_once(done):
    done.assert_worked(*WORKED)
    assert [run.partition(":")[0] for run in done.runs] == ["__main__"]


# ---- those that workers import again, and that need a guard


@pytest.mark.parametrize("name", ["script.py", "with a space/my script.py", "without_suffix", "naïve.py"])
def test_script(row, folder, name):
    file = folder.write(name, MAIN)
    folder.run(file).assert_guard_missing(file, LINE, STATEMENT)


def test_script_by_a_relative_path(row, folder):
    file = folder.write("scripts/script.py", MAIN)
    name = os.path.join("scripts", "script.py")  # noqa: PTH118 - as it is typed
    folder.run(name).assert_guard_missing(file, LINE, STATEMENT)


def test_module_of_a_package(row, folder):
    folder.write("package/__init__.py", "")
    file = folder.write("package/module.py", MAIN)
    folder.run("-m", "package.module").assert_guard_missing(file, LINE, STATEMENT)


def test_module_at_the_top_level(row, folder):
    file = folder.write("module.py", MAIN)
    folder.run("-m", "module").assert_guard_missing(file, LINE, STATEMENT)


def test_script_that_another_one_runs(row, folder):
    file = folder.write("script.py", MAIN)
    runner = folder.write("runner.py", "import runpy\nrunpy.run_path('script.py', run_name='__main__')\n")
    folder.run(runner).assert_guard_missing("script.py", LINE, STATEMENT)
    file.write_text(
        MAIN.replace("with make", 'if __name__ == "__main__":\n  with make').replace("    print", "      print")
    )
    folder.run(runner).assert_worked(*WORKED)


# ---- those that they do not, and that work without one


def test_package(row, folder):
    folder.write("package/__main__.py", MAIN)
    assert_ran_once(folder.run("-m", "package"))


def test_folder(row, folder):
    folder.write("program/__main__.py", MAIN)
    assert_ran_once(folder.run("program"))


def test_zipped_program(row, folder):
    folder.write("program/__main__.py", MAIN)
    zipapp.create_archive(folder.path / "program", folder.path / "program.pyz")
    assert_ran_once(folder.run("program.pyz"))


def test_command(row, folder):
    assert_ran_once(folder.run("-c", MAIN))


def test_standard_input(row, folder):
    assert_ran_once(folder.run("-", text=MAIN))
    assert_ran_once(folder.run(text=MAIN))


@pytest.mark.skipif(os.name == "nt", reason="no such file")
def test_standard_input_as_a_file(row, folder):
    assert_ran_once(folder.run("/dev/stdin", text=MAIN))
    with folder.write("script.py", MAIN).open() as file:  # which is another one to a worker
        assert_ran_once(folder.run("/dev/stdin", stdin=file))
