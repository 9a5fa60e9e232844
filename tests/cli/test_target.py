"""`module:function`, as a command line has it: what is imported, and the one line that says what is wrong."""

from __future__ import annotations

import json
import sys

import pytest

from parapluie.cli.program import Failure
from parapluie.cli.target import import_target

pytestmark = pytest.mark.usefixtures("imports")


def failure(text):
    with pytest.raises(Failure) as caught:
        import_target(text)
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2
    return caught.value.message


def test_function_of_an_installed_module():
    assert import_target("json:dumps") is json.dumps


def test_attribute_of_a_class():
    assert import_target("json:JSONEncoder.encode") is json.JSONEncoder.encode


def test_working_directory_is_looked_in_first(write):
    write("target_here.py", "def double(n): return 2 * n")
    assert import_target("target_here:double")(4) == 8
    assert sys.path[0] in {"", str(write("x", "").parent)}


def test_file_is_imported_by_the_name_that_workers_find_it_by(write):
    path = write("folder/target_file.py", "def double(n): return 2 * n")
    function = import_target(f"{path}:double")
    assert (function(4), function.__module__) == (8, "target_file")
    assert sys.path[0] == str(path.parent)


def test_file_in_a_package_keeps_its_packages(write):
    write("target_package/__init__.py", "")
    write("target_package/other.py", "BASE = 10")
    path = write("target_package/tasks.py", "from .other import BASE\ndef add(n): return BASE + n")
    function = import_target(f"{path}:add")
    assert (function(1), function.__module__) == (11, "target_package.tasks")


@pytest.mark.parametrize("text", ["json", "json:", ":dumps", ""])
def test_text_without_a_function(text):
    assert "write module:function" in failure(text)


@pytest.mark.parametrize("text", ["js on:dumps", "../json:dumps", ".json:dumps", "json.:dumps"])
def test_text_that_is_no_name_of_a_module(text):
    assert "is not the name of a module" in failure(text)


def test_module_that_is_not_there_with_the_nearest_name(write):
    write("target_close.py", "")
    message = failure("target_clos:run")
    assert message.startswith("there is no module 'target_clos' on the path")
    assert message.endswith("Did you mean 'target_close'?")


def test_module_that_is_not_in_its_package():
    assert failure("json.decodr:run") == "there is no module 'decodr' in package 'json'. Did you mean 'decoder'?"
    assert failure("json.decoder.deep:run").startswith("there is no module 'deep' in package 'json.decoder'")


def test_function_that_is_not_there_with_the_nearest_name():
    assert failure("json:dumpsx") == "module 'json' has no function 'dumpsx'. Did you mean 'dumps'?"
    assert failure("json:JSONEncoder.encod").startswith("'JSONEncoder' has no function 'encod'. Did you mean")


def test_what_cannot_be_called():
    assert failure("sys:maxsize") == "'sys:maxsize' is of type 'int', which cannot be called"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("\nimport no_such_module_here", "ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("\nraise ValueError('two\\nlines')", "ValueError: two lines"),
        ("\nimport sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_module_whose_import_raises_is_told_with_its_line(write, source, words):
    path = write("target_broken.py", source)
    assert failure("target_broken:run") == f"module 'target_broken' cannot be imported: {words} ({path}, line 2)"


def test_module_that_cannot_be_parsed(write):
    write("target_wrong.py", "\n\ndef (")
    message = failure("target_wrong:run")
    assert "SyntaxError" in message and "target_wrong.py, line 3" in message


def test_file_that_is_not_there():
    assert failure("nowhere/tasks.py:run") == "there is no file 'nowhere/tasks.py'"


def test_file_whose_name_is_taken(write):
    path = write("json.py", "def run(): ...")
    assert "another module is called 'json' too" in failure(f"{path}:run")


def test_file_whose_name_is_no_name_of_a_module(write):
    path = write("my-tasks.py", "def run(): ...")
    assert "'my-tasks' is not the name of a module; rename the file" in failure(f"{path}:run")
