"""Whether workers import `__main__`, and what a script hears that makes an executor outside of a guard."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

import parapluie
from parapluie import main_guard
from parapluie.errors import ConfigError

ASK = "from parapluie import main_guard; print(main_guard.main_is_importable())\n"


@pytest.fixture
def run(tmp_path):
    source = str(Path(parapluie.__file__).parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))

    def run(*command, text=None):
        return subprocess.run(
            [sys.executable, *command],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": path},
            cwd=tmp_path,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("command", "text", "expected"),
    [
        (["script.py"], None, "True"),
        (["-m", "script"], None, "True"),
        (["-m", "package"], None, "False"),
        (["package"], None, "False"),
        (["-c", ASK], None, "False"),
        (["-"], ASK, "False"),
        ([], ASK, "False"),
        (["-i"], ASK, "False"),
        pytest.param(["/dev/stdin"], ASK, "False", marks=pytest.mark.skipif(os.name == "nt", reason="no such file")),
    ],
)
def test_workers_import_main_if_it_is_a_file_or_a_module(run, tmp_path, command, text, expected):
    (tmp_path / "script.py").write_text(ASK)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(ASK)
    done = run(*command, text=text)
    assert done.stdout.split()[-1:] == [expected], done.stderr


@pytest.mark.skipif(os.name == "nt", reason="no such file")
def test_standard_input_that_is_a_file_is_none_that_workers_can_read(run, tmp_path):
    (tmp_path / "script.py").write_text(ASK)
    with (tmp_path / "script.py").open() as file:
        done = subprocess.run(
            [sys.executable, "/dev/stdin"],
            stdin=file,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(parapluie.__file__).parents[1])},
        )
    assert done.stdout.split() == ["False"]


@pytest.fixture
def main(monkeypatch):
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


def test_answer_follows_a_main_module_that_is_exchanged(main, monkeypatch, tmp_path):
    assert not main_guard.main_is_importable()
    other = ModuleType("__main__")
    (tmp_path / "script.py").touch()
    other.__file__ = str(tmp_path / "script.py")
    monkeypatch.setitem(sys.modules, "__main__", other)
    assert main_guard.main_is_importable()
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert not main_guard.main_is_importable()


def test_ipython_launcher_is_not_imported_again(main, tmp_path):
    (tmp_path / "ipython").touch()
    main.__file__ = str(tmp_path / "ipython")
    assert not main_guard.main_is_importable()


def test_frozen_program_runs_its_own_main(main, monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    main.__file__ = "missing.py"
    assert main_guard.main_is_importable()
    with main_guard.hidden_main():
        assert main.__file__ == "missing.py"


@pytest.mark.parametrize("file", ["<stdin>", "/dev/stdin", "/nowhere/gone.py"])
def test_file_that_is_none_is_hidden_while_a_process_starts(main, file):
    from multiprocessing.spawn import get_preparation_data

    main.__file__ = file
    assert "init_main_from_path" in get_preparation_data("name")
    with main_guard.hidden_main():
        assert "init_main_from_path" not in get_preparation_data("name")
    assert main.__file__ == file


def test_file_is_restored_if_a_process_cannot_start(main):
    main.__file__ = "<stdin>"
    with pytest.raises(OSError, match="no memory"), main_guard.hidden_main():
        raise OSError("no memory")
    assert main.__file__ == "<stdin>"


def test_real_file_is_not_hidden(main):
    main.__file__ = __file__
    with main_guard.hidden_main():
        assert main.__file__ == __file__
    main.__file__, main.__spec__ = "<x>", ModuleSpec("m", None)
    with main_guard.hidden_main():
        assert main.__file__ == "<x>"


def test_main_without_a_file_stays_without_one(main):
    with main_guard.hidden_main():
        assert not hasattr(main, "__file__")
    assert not hasattr(main, "__file__")


# ---- the missing guard

BEGIN = """
import multiprocessing
from parapluie import main_guard

def begin(*numbers):
    main_guard.check_main_guard()
    process = multiprocessing.get_context("{method}").Process(target=print, args=("worked",))
    process.start()
    process.join(30)

"""


@pytest.mark.parametrize("method", ["spawn"] if os.name == "nt" else ["spawn", "forkserver"])
@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("begin()", "begin()"),
        ("for n in [1]:\n    begin(\n        n,\n    )", "for n in [1]: ..."),
        ("import elsewhere", "import elsewhere"),
    ],
)
def test_message_names_the_line_that_has_to_move(run, tmp_path, method, statement, shown):
    script = tmp_path / "script.py"
    script.write_text(BEGIN.format(method=method) + statement)
    (tmp_path / "elsewhere.py").write_text(BEGIN.format(method=method) + "begin()")
    done = run("script.py")
    assert done.stderr.count("MissingMainGuardError") == 1, done.stderr
    assert f"{script}, line 11, starts workers whenever it is imported" in done.stderr
    assert f'    if __name__ == "__main__":\n        {shown}\n' in done.stderr


def test_guarded_script_starts_its_worker(run, tmp_path):
    (tmp_path / "script.py").write_text(BEGIN.format(method="spawn") + 'if __name__ == "__main__":\n    begin()')
    done = run("script.py")
    assert done.stdout.split() == ["worked"], done.stderr
    assert done.stderr == ""


def test_nothing_to_say_outside_of_an_import_of_main():
    assert not main_guard.in_main_import()
    assert main_guard.missing_guard_message() is None
    main_guard.check_main_guard()


def test_message_without_a_frame_of_main(monkeypatch):
    from multiprocessing import process

    monkeypatch.setattr(process.current_process(), "_inheriting", True, raising=False)
    message = main_guard.missing_guard_message()
    assert message is not None
    assert message.startswith("the main module starts workers")
    with pytest.raises(main_guard.MissingMainGuardError):
        main_guard.check_main_guard()


def test_error_survives_pickling():
    error = main_guard.MissingMainGuardError("script.py", 3, "main()")
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.file, back.line, back.statement) == (str(error), "script.py", 3, "main()")
    assert isinstance(error, ConfigError)
    assert isinstance(error, RuntimeError)
    assert str(error).splitlines() == [
        (
            "script.py, line 3, starts workers whenever it is imported, and every worker imports it. "
            "Move that line under a guard, so that it runs in the first process only:"
        ),
        "",
        '    if __name__ == "__main__":',
        "        main()",
    ]
