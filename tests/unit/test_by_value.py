"""Functions of a `__main__` that workers do not import: what they share there, and what stays whose."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import types
from pathlib import Path
from textwrap import dedent

import cloudpickle
import pytest

import parapluie
from parapluie import by_value

# What the parents below import: workers that are plain child processes, and what they answered.
WORKERS = '''
import pickle, struct, subprocess, sys
from parapluie import call_format, pickling, worker

CHILD = """
import sys
if sys.argv[1:]:
    from multiprocessing.spawn import import_main_path
    import_main_path(sys.argv[1])
from workers import serve
serve()
"""

def serve():
    while size := sys.stdin.buffer.read(8):
        payload = sys.stdin.buffer.read(*struct.unpack("<Q", size))
        reply, _ = worker.run(payload)
        sys.stdout.buffer.write(struct.pack("<Q", len(reply)) + reply)
        sys.stdout.buffer.flush()

class Worker:
    def __init__(self, *main):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, *main], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def run(self, function, *args):
        return self.send(pickling.dumps_auto((function, args, {}), [].append))

    def send(self, payload):
        self.process.stdin.write(struct.pack("<Q", len(payload)) + payload)
        self.process.stdin.flush()
        reply = self.process.stdout.read(*struct.unpack("<Q", self.process.stdout.read(8)))
        [(kind, _, _, _, body, _)] = call_format.segments_of(reply)
        value = pickle.loads(body) if kind != call_format.UNREADABLE else bytes(body).decode()
        assert kind == call_format.VALUE, value
        return value

    def close(self):
        self.process.communicate(timeout=20)
'''


@pytest.fixture
def run(tmp_path):
    """Run a parent's text and return what it printed, as words."""
    (tmp_path / "workers.py").write_text(WORKERS)
    source = str(Path(parapluie.__file__).parents[1])
    path = os.pathsep.join(filter(None, [str(tmp_path), source, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}

    def run(text: str, *, how: str = "stdin") -> list[str]:
        text = "from workers import Worker\n" + dedent(text)
        (tmp_path / "script.py").write_text(text)
        command = {"stdin": ["-"], "command": ["-c", text], "script": ["script.py"], "package": ["-m", "package"]}[how]
        done = subprocess.run(
            [sys.executable, *command],
            input=text if how == "stdin" else None,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return run


@pytest.mark.parametrize("how", ["stdin", "command"])
def test_initializer_and_tasks_share_one_set_of_globals(run, how):
    assert run(
        """
        state = None
        def prepare(value):
            global state
            state = value
        def read():
            return state
        worker = Worker()
        worker.run(prepare, 5)
        print(worker.run(read), worker.run(lambda: state), state)
        worker.close()
        """,
        how=how,
    ) == ["5", "5", "None"]


def test_value_changed_in_place_by_a_worker_is_kept(run):
    assert run(
        """
        seen = []
        def note(value):
            seen.append(value)
            return len(seen)
        worker = Worker()
        print(worker.run(note, 1), worker.run(note, 1), worker.run(lambda: len(seen)), len(seen))
        worker.close()
        """
    ) == ["1", "2", "2", "0"]


def test_name_rebound_in_the_parent_reaches_the_worker_again(run):
    assert run(
        """
        factor = 2
        def scale(n): return factor * n
        worker = Worker()
        print(worker.run(scale, 10))
        factor = 3
        print(worker.run(scale, 10))
        def scale(n): return -n
        def twice(n): return scale(scale(n)) + scale(n)
        print(worker.run(twice, 1))
        worker.close()
        """
    ) == ["20", "30", "0"]


def test_worker_that_starts_later_gets_all_that_a_task_refers_to(run):
    assert run(
        """
        base = 40
        def add(n): return base + n
        def outer(n): return add(n)
        first = Worker()
        first.run(outer, 1)
        second = Worker()
        print(second.run(outer, 2))
        first.close(); second.close()
        """
    ) == ["42"]


def test_functions_that_refer_to_each_other_keep_their_defaults_and_closures(run):
    assert run(
        """
        def make(step):
            def down(n, limit=0): return n if n <= limit else up(n - step)
            return down
        down = make(2)
        def up(n, *, extra=1): return down(n - extra)
        worker = Worker()
        print(worker.run(down, 10), worker.run(up, 10), worker.run(down, 10))
        worker.close()
        """
    ) == ["-2", "0", "-2"]


def test_class_is_one_class_for_all_tasks_and_its_instances_come_back_as_ours(run):
    assert run(
        """
        class Settings:
            value = None
            def __init__(self, n): self.n = n
        class Oops(Exception): pass
        def prepare(): Settings.value = 7
        def read(settings): return isinstance(settings, Settings) and settings.value
        def make(): return Settings(3), Oops("x")
        worker = Worker()
        worker.run(prepare)
        print(worker.run(read, Settings(1)))
        made, oops = worker.run(make)
        print(type(made) is Settings, made.n, type(oops) is Oops, Settings.value)
        Settings.value = 8
        print(worker.run(read, Settings(1)))
        worker.close()
        """
    ) == ["7", "True", "3", "True", "None", "8"]


def test_class_that_only_an_argument_refers_to_has_its_name_in_the_worker(run):
    assert run(
        """
        import pickle
        class Settings: pass
        def by_value(thing): return b"by_value" in pickle.dumps(thing)
        worker = Worker()
        print(worker.run(by_value, Settings()))
        worker.close()
        """
    ) == ["False"]


def test_reply_never_changes_the_parents_globals(run):
    assert run(
        """
        x = 1
        def set_x(n):
            global x, only_there
            x, only_there = n, n + 1
            return (lambda: (x, only_there)), set_x
        worker = Worker()
        read, back = worker.run(set_x, 5)
        print(x, *read(), back is set_x)
        worker.run(set_x, 7)
        print(*read())
        worker.close()
        """
    ) == ["1", "1", "6", "True", "1", "6"]


def test_reply_never_changes_the_parents_classes_and_functions(run):
    assert run(
        """
        class Settings:
            value = None
        def note(value, seen=[]):
            seen.append(value)
            Settings.value = value
            return Settings(), note, lambda: 0
        worker = Worker()
        worker.run(note, 7)
        made, back, _ = worker.run(note, 8)
        print(type(made) is Settings, Settings.value, back is note, note.__defaults__)
        worker.close()
        """
    ) == ["True", "None", "True", "([],)"]


def test_function_that_was_redefined_meanwhile_comes_back_as_it_was(run):
    assert run(
        """
        from parapluie import pickling
        def name(): return "old", name, lambda: 0
        payload = pickling.dumps_auto((name, (), {}), print)
        def name(): return "new", name
        worker = Worker()
        back = worker.send(payload)[1]
        print(back()[0], back is name)
        worker.close()
        """
    ) == ["old", "False"]


def test_sender_that_reads_its_own_bytes_gets_its_own_things(run):
    assert run(
        """
        import pickle
        from parapluie import by_value
        state = []
        class Settings: pass
        def get(seen=[]): return state
        again = pickle.loads(by_value.dumps([get, Settings, lambda: state]))
        print(again[0] is get, again[1] is Settings, again[2]() is state)
        """
    ) == ["True", "True", "True"]


def test_relative_import_in_a_function_of_a_package(run, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "other.py").write_text("answer = 42")
    (tmp_path / "package" / "__main__.py").write_text(
        "from workers import Worker\n"
        "def task():\n    from .other import answer\n    return answer\n"
        "worker = Worker()\nprint(worker.run(task))\nworker.close()\n"
    )
    assert run("", how="package") == ["42"]


def test_cached_function_travels(run):
    assert run(
        """
        from functools import cache
        @cache
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        def cached(): return fib.cache_info().currsize
        worker = Worker()
        print(worker.run(fib, 80), worker.run(cached))
        worker.close()
        """
    ) == ["23416728348467685", "81"]


def test_module_attributes_of_the_worker_are_left_alone(run):
    assert run(
        """
        import builtins, sys, types
        __version__ = "1"
        def look():
            names = vars(sys.modules["__main__"])
            __name__, __spec__, __doc__, __version__
            return type(names["__builtins__"]).__name__, "__file__" in names, names["__version__"]
        __doc__ = "parent"
        worker = Worker()
        print(*worker.run(look), worker.run(lambda: __doc__))
        worker.close()
        """
    ) == ["module", "False", "1", "None"]


def test_thing_placed_in_main_goes_by_reference(run):
    assert run(
        """
        import pickle
        def helper(): pass
        def by_reference(): return b"by_value" in pickle.dumps(helper)
        worker = Worker()
        print(worker.run(by_reference))
        worker.close()
        """
    ) == ["False"]


SCRIPT = """
    limit = 1
    made_by = []
    def helper(n): return limit * n
    class Thing: size = 1
    def check(thing, function):
        return isinstance(thing, Thing), function is helper
    def prepare():
        global limit
        limit = 100
    if __name__ == "__main__":
        limit = Thing.size = 50
        def local(n): return helper(n) + late
        worker = Worker(__file__)
        {body}
        worker.close()
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # What the worker's own import made wins over what the parent has made of it since.
        ("print(worker.run(lambda: limit), worker.run(lambda: Thing.size))", ["1", "1"]),
        # And the functions that it imported see the same names as those that came by value.
        ("worker.run(prepare); print(worker.run(lambda: (limit, helper(2))))", ["(100,", "200)"]),
        # What only the parent's guard made is added, and added again when it is rebound.
        ("for late in (3, 4): print(worker.run(lambda: local(1)))", ["4", "5"]),
        # Functions and classes that travel beside a lambda are the worker's own.
        ("print(*worker.run(lambda thing: check(thing, helper), Thing()))", ["True", "True"]),
        ("print(*worker.run(check, Thing(), helper), worker.run(lambda: Thing) is Thing)", ["True", "True", "True"]),
    ],
)
def test_lambda_of_a_script_shares_the_main_module_that_the_worker_imported(run, body, expected):
    assert run(SCRIPT.replace("{body}", body), how="script") == expected


def test_second_sender_gets_a_namespace_of_its_own():
    text = """
        import sys
        from parapluie import by_value
        def name(): return {!r}
        def task(): return name()
        sys.stdout.buffer.write(by_value.dumps(task))
    """
    reader = """
        import pickle, sys
        a, b, c = [pickle.loads(bytes.fromhex(sys.argv[index])) for index in (1, 2, 1)]
        print(a(), b(), c(), name())
    """

    def python(*command, text=""):
        return subprocess.run(
            [sys.executable, *command], input=dedent(text).encode(), capture_output=True, check=True, timeout=30
        ).stdout

    payloads = [python("-", text=text.format(name)) for name in ("first", "second")]
    answer = python("-c", dedent(reader), *(payload.hex() for payload in payloads))
    assert answer.split() == [b"first", b"second", b"first", b"first"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_worker_takes_what_was_rebound_since(run):
    assert run(
        """
        import multiprocessing, pickle
        from parapluie import by_value
        x = 1
        def read(): return x
        by_value.dumps(read)
        def child(pipe):
            while data := pipe.recv_bytes():
                pipe.send(pickle.loads(data)())
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=child, args=(there,))
        process.start()
        for x in (2, 3):
            here.send_bytes(by_value.dumps(read))
            print(here.recv())
        here.send_bytes(b"")
        process.join(20)
        """
    ) == ["2", "3"]


def test_version_of_a_name_counts_how_often_it_was_rebound(monkeypatch):
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec("def read(): return x", vars(main))  # noqa: S102 - a function of that module
    versions = []
    for x in (1, 1, 2, 2, 3):
        vars(main)["x"] = x
        by_value.dumps(main.read)
        versions.append(by_value._process.main().sent["x"].version)
    assert versions == [1, 1, 2, 2, 3]


def test_cloudpickle_still_reduces_as_the_pickler_expects():
    def function(n=1):
        return n + outside

    outside = 2

    class Local:
        pass

    pickler = cloudpickle.Pickler(io.BytesIO())
    make, arguments, state, items, pairs, set_state = pickler.reducer_override(function)
    code, names, name, defaults, closure = arguments
    assert (code, name, defaults, len(closure)) == (function.__code__, None, None, 1)
    assert isinstance(names, dict) and items is pairs is None and callable(make) and callable(set_state)
    attributes, slots = state
    assert attributes == {} and slots["__globals__"] == {} and slots["__defaults__"] == (1,)
    assert len(pickler.reducer_override(Local)) == by_value._DYNAMIC
    assert pickler.reducer_override(os.path.join) is NotImplemented


def test_function_outside_of_main_is_left_to_cloudpickle():
    read = pickle.loads(by_value.dumps(lambda: parapluie.__name__))
    assert read() == "parapluie"
    assert read.__globals__ is not vars(sys.modules["__main__"])
