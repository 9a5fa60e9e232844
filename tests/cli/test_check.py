"""`parapluie check`: what travels and how, what does not and why, and what cannot be read."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.usefixtures("imports")

TASKS = """
import functools, threading

double = lambda n: 2 * n

def square(n):
    return n * n

class Client:
    def __init__(self):
        self._lock = threading.Lock()

    def fetch(self, page):
        return page

client = Client()
partial = functools.partial(square, 3)

class OneWay:
    def __call__(self): ...
    def __reduce__(self):
        return square, ("not a number",)

one_way = OneWay()
"""
ARRAY = """
import functools, pickle

class Array:
    def __reduce_ex__(self, protocol):
        return bytes, (pickle.PickleBuffer(bytearray(100_000)),)

load = functools.partial(print, Array())
"""


@pytest.fixture
def check(write, invoke):
    """Check a function of TASKS; return the exit status and the JSON."""
    write("target_tasks.py", TASKS)

    def check(name, *options):
        done = invoke("check", f"target_tasks:{name}", "--json", *options)
        return done.exit_code, json.loads(done.stdout)

    return check


def test_function_of_a_module_travels_by_reference(check):
    code, found = check("square", "--args", "[7]")
    assert code == 0
    assert (found["travels"], found["how"], found["read_back"], found["problem"]) == (True, "reference", True, None)
    assert found["bytes"]["function"] < found["bytes"]["payload"] < 100
    assert found["bytes"]["out_of_band"] == found["bytes"]["buffers"] == 0


def test_lambda_travels_by_value_unless_the_serializer_is_strict(check):
    code, found = check("double")
    assert (code, found["travels"], found["how"]) == (0, True, "value")
    code, found = check("double", "--serializer", "pickle")
    assert (code, found["travels"], found["bytes"], found["path"]) == (1, False, None, "function")
    assert "is a lambda, which cannot be pickled" in found["problem"]


def test_partial_travels_as_data(check):
    assert check("partial")[1]["how"] == "state"


def test_cloudpickle_sends_what_can_be_imported_by_reference(check):
    assert check("square", "--serializer", "cloudpickle")[1]["how"] == "reference"


def test_what_stops_it_is_named_by_its_path(check):
    code, found = check("client.fetch", "--args", "[7]")
    assert (code, found["path"], found["found"]) == (1, "function.__self__._lock", "_thread.lock")
    assert "create it in the worker" in found["problem"]


def test_what_cannot_be_read_back_does_not_travel(check):
    code, found = check("one_way")
    assert (code, found["travels"], found["read_back"]) == (1, False, False)
    assert found["problem"].startswith("it can be pickled and not read back: TypeError")
    assert found["bytes"]["payload"] > 0


def test_arguments_count(check):
    few, many = (check("square", "--args", json.dumps(["x" * n]), "--kwargs", '{"n": 1}')[1] for n in (1, 1001))
    assert many["bytes"]["arguments"] - few["bytes"]["arguments"] >= 1000
    assert many["bytes"]["function"] == few["bytes"]["function"]


def test_buffers_are_counted_out_of_band(write, invoke):
    write("target_array.py", ARRAY)
    done = invoke("check", "target_array:load", "--json")
    sizes = json.loads(done.stdout)["bytes"]
    assert (sizes["out_of_band"], sizes["buffers"]) == (100_000, 1)
    assert sizes["payload"] < 1000
    assert "100,000 bytes in 1 buffer\n" in invoke("check", "target_array:load").stdout


def test_text_says_the_same(write, invoke):
    write("target_tasks.py", TASKS)
    done = invoke("check", "target_tasks:square")
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert done.stdout.startswith("target_tasks:square travels\n")
    assert ["function", "by reference: workers import target_tasks; 38 bytes"] in lines
    assert lines[-1] == ["read", "back    yes"]
    done = invoke("check", "target_tasks:client.fetch")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[:1] == ["target_tasks:client.fetch does not travel"]
    assert "  function.__self__._lock is a '_thread.lock'" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere:run"], "there is no module 'nowhere'"),
        (["json:dump5"], "has no function 'dump5'. Did you mean 'dump"),
        (["json:dumps", "--args", "[1"], "--args '[1' is not valid JSON: Expecting ',' delimiter: line 1 column 3"),
        (["json:dumps", "--args", '{"a": 1}'], 'is not a JSON list; write one as [1, "two"]'),
        (["json:dumps", "--kwargs", "[1]"], "--kwargs '[1]' is not a JSON object"),
        (["json:dumps", "--serializer", "pikle"], "unknown serializer 'pikle'; available: auto, cloudpickle, pickle"),
    ],
)
def test_bad_input_is_one_line_and_status_2(invoke, arguments, words):
    done = invoke("check", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.startswith("parapluie: ") and done.stderr.count("\n") == 1
