"""The server of start method forkserver: from Python 3.13.8 and 3.14.1 on it imports the main module, too."""

from __future__ import annotations

import multiprocessing

import pytest
from first_day_programs import BACKENDS, Folder, Row

pytestmark = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="no start method 'forkserver' here"
)

# Makes an older Python do so, too; it does nothing to a newer one.
HEAD = """\
from multiprocessing import spawn

from first_day_help import make, note_run, square
from parapluie import main_guard

plain = spawn.get_preparation_data
def with_main(name):
    data = plain(name)
    if "init_main_from_path" in data:
        data["main_path"] = data["init_main_from_path"]
    return data
spawn.get_preparation_data = with_main
main_guard._SERVER_IMPORTS_MAIN = True

note_run()
"""
LINE = HEAD.count("\n") + 1
SUBMIT = "print(make().submit(square, 3).result())"


@pytest.fixture(params=BACKENDS)
def folder(tmp_path, request):
    return Folder(tmp_path, Row(request.param, "forkserver"))


def test_server_does_not_end_because_the_guard_is_missing(folder):
    file = folder.write("script.py", HEAD + SUBMIT)
    folder.run(file).assert_guard_missing(file, LINE, SUBMIT)


def test_condition_that_is_no_guard(folder):
    file = folder.write("script.py", f"{HEAD}if __file__:\n    {SUBMIT}\n")
    folder.run(file).assert_guard_missing(file, LINE, "if __file__: ...")


@pytest.mark.parametrize("guard", ['if __name__ == "__main__":', 'if make and "__main__" == __name__:'])
def test_server_imports_a_guarded_main_module_for_all_workers(folder, guard):
    file = folder.write("script.py", f"{HEAD}def main():\n    {SUBMIT}\n{guard}\n    main()\n")
    done = folder.run(file)
    done.assert_worked("9")
    assert [run.partition(":")[0] for run in done.runs] == ["__main__", "__mp_main__"]


def test_program_that_keeps_workers_out_in_another_way_works(folder):
    guard = "import multiprocessing\nif multiprocessing.current_process().name == 'MainProcess':"
    done = folder.run(folder.write("script.py", f"{HEAD}{guard}\n    {SUBMIT}\n"))
    done.assert_worked("9")
