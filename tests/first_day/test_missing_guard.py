"""A script without `if __name__ == "__main__":` ends with one error that names the line, whatever the line does."""

from __future__ import annotations

import pytest

# Line 7 is where what each of the scripts below adds begins.
HEAD = """\
import multiprocessing
from first_day_help import make, method, note_run, square

note_run()
def prepare(lock): pass

"""
assert HEAD.count("\n") == 6

SUBMIT = "print(make().submit(square, 3).result())"
WITH = """\
with make() as executor:
    print(executor.submit(square, 3).result())
"""
MAP = "print(list(make().map(square, range(100))))"
MANY = """\
with make() as executor:
    print([future.result() for future in [executor.submit(square, n) for n in range(50)]])
"""
NOBODY_ASKS = """\
with make() as executor:
    executor.submit(square, 3)
"""
# Workers are given a function of a main module that they do not have yet.
INHERITED = """\
with make(initializer=prepare, initargs=(multiprocessing.get_context(method).Lock(),)) as executor:
    print(executor.submit(square, 3).result())
"""


@pytest.mark.parametrize(
    ("script", "statement"),
    [
        (SUBMIT, SUBMIT),
        (WITH, "with make() as executor: ..."),
        (MAP, MAP),
        (MANY, "with make() as executor: ..."),
        (NOBODY_ASKS, "with make() as executor: ..."),
        (INHERITED, f"{INHERITED.splitlines()[0]} ..."),
    ],
    ids=["submit", "with", "map", "many", "nobody-asks", "inherited"],
)
def test_one_error_names_the_line(row, folder, script, statement):
    file = folder.write("script.py", HEAD + script)
    done = folder.run(file)
    done.assert_guard_missing(file, 7, statement)
    assert done.stdout == ""


def test_line_is_the_one_at_the_top_level(row, folder):
    file = folder.write("script.py", HEAD + f"def main():\n    {SUBMIT}\n\n\nmain()\n")
    folder.run(file).assert_guard_missing(file, 11, "main()")


def test_error_that_the_script_catches_is_said_by_the_script_alone(row, folder):
    # The workers, which run the same lines, say nothing.
    file = folder.write(
        "script.py",
        HEAD
        + f"""\
try:
    {SUBMIT}
except Exception as error:
    print("caught", type(error).__name__, error.line)
""",
    )
    done = folder.run(file)
    assert done.stdout.split() == ["caught", "MissingMainGuardError", "7"]
    assert (done.exit_code, done.stderr) == (0, "")


def test_error_that_nothing_has_raised_is_logged_at_exit(row, folder):
    file = folder.write("script.py", HEAD + "make().submit(square, 3)\n")
    done = folder.run(file)
    if row.backend == "manager":  # its server is started with the executor, which cannot be made
        done.assert_guard_missing(file, 7, "make().submit(square, 3)")
    else:
        done.assert_guard_missing(file, 7, "make().submit(square, 3)", tracebacks=0, exit_code=0)


def test_shared_state_that_starts_a_server(row, folder):
    file = folder.write("script.py", HEAD + "print(dict((executor := make()).shared.dict(a=1)))\n")
    folder.run(file).assert_guard_missing(file, 7, "print(dict((executor := make()).shared.dict(a=1)))")


def test_module_that_makes_an_executor_when_it_is_imported(row, folder):
    folder.write("elsewhere.py", "from first_day_help import make, square\nprint(make().submit(square, 3).result())\n")
    file = folder.write("script.py", HEAD + "import elsewhere\n")
    folder.run(file).assert_guard_missing(file, 7, "import elsewhere")


def test_guarded_script_works(row, folder):
    file = folder.write("script.py", HEAD + f'if __name__ == "__main__":\n    {SUBMIT}\n')
    done = folder.run(file)
    done.assert_worked("9")
    assert {run.partition(":")[0] for run in done.runs} == {"__main__", "__mp_main__"}


def test_process_that_is_not_ours(row, folder):
    if row.backend == "manager":
        pytest.skip("this one starts a process of its own with the executor")
    # It says so itself: what started it does not know what to listen for. That the script catches errors is no way on.
    file = folder.write(
        "script.py",
        HEAD
        + """\
try:
    executor = make()
except Exception as error:
    print("caught", error)
if __name__ == "__main__":
    process = multiprocessing.get_context(method).Process(target=print, args=("started",))
    process.start()
    process.join()
    print(process.exitcode)
    executor.shutdown()
""",
    )
    done = folder.run(file)
    done.assert_guard_missing(file, 7, "try: ...", tracebacks=0, exit_code=0)
    assert done.stdout.split() == ["1"]
