"""Preflight: which pickle is used, and what is said about what none can send."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import io
import multiprocessing
import os
import pickle
import queue
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import types
import weakref

import pytest

from parapluie import main_guard, pickling
from parapluie.call_format import LARGE


def drop(buffer: object) -> None:
    """Take a buffer that nobody looks at."""


class Bag:
    """Anything with attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def method(self):
        pass


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner


class HostileState:
    def __init__(self, error):
        self.error = error

    def __getstate__(self):
        raise self.error


class HostileReduce(HostileState):
    def __reduce__(self):
        raise self.error


class Endless:
    def __reduce__(self):
        return Endless, (), None, iter(threading.Lock, None)


class BadRepr:
    def __repr__(self):
        raise RuntimeError

    def __hash__(self):
        return 1


class LockedDict(dict[str, object]):
    pass


def module_function():
    pass


def local():
    def inner():
        pass

    class Inner:
        pass

    return inner, Inner


def explain(value, root="args[0]"):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the subject is what is said about it
        pickling.dumps_auto(value, drop)
    return pickling.explain(value, root, caught.value)


def linked():
    """A parent and its child know each other; only the parent, and behind the child, has what cannot travel."""
    parent = Bag()
    vars(parent).update(child=Bag(parent=parent), lock=threading.Lock())
    return parent


def deep():
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    return value


def chain(depth):
    value: object = threading.Lock()
    for _ in range(depth):
        value = [value]
    return value


def closure():
    lock = threading.Lock()
    return lambda: lock


LOCK = "'_thread.lock', which cannot be pickled; create it in the worker (initializer=) or leave it out in __getstate__"
QUEUES = "it reaches other processes by inheritance only; use executor.shared"
EXECUTOR = "an executor cannot be sent into a task; make one there"

LOOP = asyncio.new_event_loop()
LOOP.close()
PIPE_END = f"multiprocessing.connection.{'Pipe' * (os.name == 'nt')}Connection"

CULPRITS = [
    # make, path, found, and the end of the sentence
    (threading.Lock, "", "_thread.lock", LOCK),
    (lambda: [0, (1, {"client": Bag(_lock=threading.Lock())})], "[1][1]['client']._lock", "_thread.lock", LOCK),
    (lambda: {threading.Lock(): 1}, "{key}", "_thread.lock", LOCK),
    (lambda: {1, threading.Lock()}, "{element}", "_thread.lock", LOCK),
    (lambda: {BadRepr(): threading.Lock()}, "[<test_pickling.BadRepr>]", "_thread.lock", LOCK),
    (lambda: LockedDict(x=threading.Lock()), "['x']", "_thread.lock", LOCK),
    (lambda: Slotted(threading.Lock()), ".inner", "_thread.lock", LOCK),
    (lambda: Bag(method=1, me=Bag(lock=threading.Lock()).method), ".me.__self__.lock", "_thread.lock", LOCK),
    (lambda: threading.Lock().acquire, ".__self__", "_thread.lock", LOCK),
    (lambda: functools.partial(print, 1, file=threading.Lock()), ".keywords['file']", "_thread.lock", LOCK),
    (lambda: ValueError("x", threading.Lock()), ".args[1]", "_thread.lock", LOCK),
    (linked, ".lock", "_thread.lock", LOCK),
    (lambda: chain(50), "[0]" * 50, "_thread.lock", LOCK),
    (closure, ".__closure__['lock']", "_thread.lock", LOCK),
    (lambda: [*range(200_000), threading.Lock()], "[200000]", "_thread.lock", LOCK),
    (threading.RLock, "", "_thread.RLock", "create it in the worker (initializer=) or"),
    (lambda: Bag(done=threading.Event()), ".done", "threading.Event", "leave it out in __getstate__"),
    (threading.Thread, "", "threading.Thread", "start it in the worker"),
    (threading.local, "", "_thread._local", "leave it out in __getstate__"),
    (queue.Queue, "", "queue.Queue", "use executor.shared.queue()"),
    (lambda: open(os.devnull, "rb"), "", "_io.BufferedReader", "send its path and open it in the worker"),  # noqa: SIM115, PTH123
    (socket.socket, "", "socket.socket", "open it in the worker (initializer=)"),
    (lambda: (n for n in "ab"), "", "generator", "send a list of its items, or make it in the worker"),
    (lambda: sqlite3.connect(":memory:"), "", "sqlite3.Connection", "open it in the worker (initializer=)"),
    (lambda: concurrent.futures.ThreadPoolExecutor(1), "", "concurrent.futures.thread.ThreadPoolExecutor", EXECUTOR),
    (lambda: concurrent.futures.ThreadPoolExecutor(1).submit, ".__self__",
     "concurrent.futures.thread.ThreadPoolExecutor", EXECUTOR),
    (lambda: [concurrent.futures.Future()], "[0]", "concurrent.futures._base.Future", "send its result()"),
    (lambda: asyncio.Future(loop=LOOP), "", "_asyncio.Future", "await it and send what that gives"),
    (lambda: multiprocessing.Pipe()[0], "", PIPE_END, "use executor.shared.queue()"),
    (multiprocessing.Queue, "", "multiprocessing.queues.Queue", QUEUES),
    (lambda: Bag(guard=multiprocessing.Lock()), ".guard", "multiprocessing.synchronize.Lock", QUEUES),
    (lambda: weakref.ref(Bag), "", "weakref.ReferenceType", "send the object itself, or leave it out in __getstate__"),
    (lambda: contextvars.ContextVar("v"), "", "_contextvars.ContextVar", "send the value that is needed"),
    (lambda: re.match("a", "a"), "", "re.Match", "send the groups that are needed"),
    (deep, "", "list", "is nested too deeply to be pickled; flatten it, or refer to its parts by keys or numbers"),
    (lambda: HostileState(ValueError("no")), "", "test_pickling.HostileState",
     "args[0] is a 'test_pickling.HostileState' whose __getstate__ raised ValueError: no"),
    (lambda: HostileReduce(OSError("x")), "", "test_pickling.HostileReduce", "whose __reduce__ raised OSError: x"),
    (Endless, "[0]", "_thread.lock", LOCK),
]  # fmt: skip


@pytest.mark.parametrize(("make", "path", "found", "ending"), CULPRITS)
def test_culprit_is_named_by_its_path(make, path, found, ending):
    value = make()
    problem, where, what = explain(value)
    if isinstance(value, io.IOBase | socket.socket | sqlite3.Connection):
        value.close()
    assert (where, what) == ("args[0]" + path, found)
    assert problem.startswith("args[0]" + path)
    assert ending in problem


async def answer():
    return 42


def coroutine():
    made = answer()
    made.close()
    return made


RETURNED = [
    (threading.Lock, "", "return what is needed of it as plain data, or leave it out in __getstate__"),
    (lambda: [concurrent.futures.Future()], "[0]", "a future stays in the process that made it; return its result()"),
    (lambda: {"pool": concurrent.futures.ThreadPoolExecutor(1)}, "['pool']", "; return what its tasks returned"),
    (lambda: (n for n in "ab"), "", "'generator', which cannot be pickled; return a list of its items"),
    (coroutine, "", "run it in the task, as by asyncio.run(), and return what that returns"),
    (lambda: open(os.devnull, "rb"), "", "return its path, or what it holds"),  # noqa: SIM115, PTH123
    (queue.Queue, "", "return a list of its items, or use executor.shared.queue()"),
    (lambda: multiprocessing.Pipe(duplex=False), "[0]", "Connection', which cannot be pickled; return what is needed"),
]


@pytest.mark.parametrize(("make", "path", "ending"), RETURNED)
def test_culprit_in_a_result_gets_the_advice_for_one(make, path, ending):
    value = make()
    problem, where, _ = explain(value, "result")
    if isinstance(value, io.IOBase):
        value.close()
    assert where == "result" + path
    assert problem.endswith(ending) or ending in problem
    assert "worker" not in problem


@pytest.mark.parametrize("dumps", [pickling.dumps_auto, pickling.dumps_strict, pickling.dumps_cloudpickle])
def test_end_of_a_pipe_is_refused_and_its_class_is_not(dumps):
    ends = multiprocessing.Pipe()
    with pytest.raises(pickle.PicklingError, match="Connection"):
        dumps(([ends[1]], 1), None)
    again = pickle.loads(dumps([type(ends[0]), "multiprocessing.connection"], None))
    assert again == [type(ends[0]), "multiprocessing.connection"]
    for end in ends:
        end.close()


def test_error_of_sys_exit_in_a_reduce_is_reported():
    problem, path, _ = pickling.explain([HostileReduce(SystemExit(3))], "result", SystemExit(3))
    assert path == "result[0]"
    assert problem.endswith("whose __reduce__ raised SystemExit: 3")


def test_keyboard_interrupt_passes():
    with pytest.raises(KeyboardInterrupt):
        pickling.explain(HostileReduce(KeyboardInterrupt()), "result", ValueError())


def strictly(value, root="function"):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - as above
        pickling.dumps_strict(value, drop)
    return pickling.explain(value, root, caught.value)


@pytest.mark.parametrize(
    ("value", "path", "what"),
    [
        (lambda: 1, "function", "a lambda"),
        ([local()[0]], "function[0]", "the local function 'local.<locals>.inner'"),
        (local()[1], "function", "the local class 'local.<locals>.Inner'"),
        (Bag(inner=local()[1]()), "function.inner.__class__", "the local class 'local.<locals>.Inner'"),
    ],
)
def test_strict_serializer_names_what_is_not_at_the_top_level(value, path, what):
    problem, where, _ = strictly(value)
    assert where == path
    assert problem == (
        f"{path} is {what}, which cannot be pickled; define it at the top level of a module, or use serializer='auto'"
    )


def test_strict_serializer_names_a_module():
    problem, path, found = strictly(Bag(module=os))
    assert (path, found) == ("function.module", "module")
    assert problem.endswith("import it inside of the function")


def test_parts_of_a_task_are_named():
    lock = threading.Lock()
    error = TypeError("cannot pickle")
    assert pickling.explain_task(lock.acquire, (), {}, error)[1] == "function.__self__"
    assert pickling.explain_task(print, (1, Bag(client=Bag(_lock=lock))), {}, error)[1] == "args[1].client._lock"
    assert pickling.explain_task(print, (), {"a": 1, "x": [lock]}, error)[1] == "kwargs['x'][0]"
    assert pickling.explain_item((1, lock), 17, error)[1] == "item 17[1]"


def test_error_is_quoted_where_nothing_fails_a_second_time():
    assert pickling.explain(1, "result", ValueError("odd")) == ("result cannot be pickled: ValueError: odd", None, None)


def test_explanation_is_plain_data():
    assert pickle.loads(pickle.dumps(explain(threading.Lock())))[1] == "args[0]"
    assert type(explain(threading.Lock())) is tuple


class Slow:
    def __reduce__(self):
        time.sleep(0.02)
        return module_function, ()


def test_search_ends_in_time():
    value = [[Slow() for _ in range(500)], threading.Lock()]
    begin = time.monotonic()
    assert pickling.explain(value, "result", ValueError("odd"))[1:] == (None, None)
    assert time.monotonic() - begin < 5  # pickling it once takes 10


# ---- the serializers


def test_standard_pickle_comes_first():
    value = [module_function, {"a": 1}]
    assert pickling.dumps_auto(value, drop) == pickle.dumps(value, 5)


def test_lambda_goes_by_value_unless_strict():
    value = lambda n: n + 1  # noqa: E731 - it has to be one
    assert pickle.loads(pickling.serializer("auto")(value, drop))(1) == 2
    assert pickle.loads(pickling.serializer("cloudpickle")(value, drop))(1) == 2
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickling.serializer("pickle")(value, drop)
    with pytest.raises(KeyError):
        pickling.serializer("marshal")


def test_error_is_the_standard_one_if_neither_can():
    class Counting:
        asked = 0

        def __reduce__(self):
            Counting.asked += 1
            raise ValueError(Counting.asked)

    with pytest.raises(ValueError, match="^1$"):
        pickling.dumps_auto(Counting(), drop)
    assert Counting.asked == 2
    assert pickling.dumps_by_value(threading.Lock(), drop) is None


def test_exit_in_a_reduce_passes():
    with pytest.raises(SystemExit):
        pickling.dumps_auto(HostileReduce(SystemExit(1)), drop)


@pytest.mark.parametrize("name", ["auto", "pickle", "cloudpickle"])
def test_buffers_go_out_of_band(name):
    buffers: list[pickle.PickleBuffer] = []
    large = b"large" * LARGE
    value = [pickle.PickleBuffer(bytearray(large)), pickle.PickleBuffer(bytearray(b"small")), module_function]
    data = pickling.serializer(name)(value, buffers.append)
    assert b"large" not in data and b"small" in data
    assert [bytes(buffer) for buffer in pickle.loads(data, buffers=buffers)[:2]] == [large, b"small"]
    assert pickle.loads(pickling.serializer(name)(value, None))[0] == large


def test_buffers_of_a_failed_attempt_are_not_sent():
    buffers: list[pickle.PickleBuffer] = []
    large = b"large" * LARGE
    value = [pickle.PickleBuffer(bytearray(large)), lambda: 1]
    data = pickling.dumps_auto(value, buffers.append)
    assert len(buffers) == 1
    assert bytes(pickle.loads(data, buffers=buffers)[0]) == large
    with pytest.raises((AttributeError, pickle.PicklingError)):  # what the standard pickle says of the lambda
        pickling.dumps_auto([*value, threading.Lock()], buffers.append)
    assert len(buffers) == 1


@pytest.fixture
def main(monkeypatch):
    main = types.ModuleType("__main__")
    exec("def f(): return 1\nclass C: pass\n", vars(main))  # noqa: S102 - as a prompt does
    monkeypatch.setitem(sys.modules, "__main__", main)
    return main


@pytest.fixture
def prompt(main):
    """A `__main__` such as that of a prompt."""
    assert not main_guard.main_is_importable()
    return main


@pytest.fixture
def script(main):
    """A `__main__` such as that of a script."""
    main.__file__ = __file__
    assert main_guard.main_is_importable()
    return main


def test_function_of_a_prompt_goes_by_value(prompt):
    data = pickling.dumps_auto((prompt.f, (), {}), drop)
    assert b"by_value" in data
    assert b"by_value" not in pickling.dumps_auto((module_function, (), {}), drop)


@pytest.mark.parametrize("name", ["f", "C"])
def test_strict_serializer_refuses_what_a_prompt_defines(prompt, name):
    value = {"text": "__main__", "what": getattr(prompt, name)}
    with pytest.raises(pickle.PicklingError, match=rf"^'{name}' is defined in a __main__ that workers do not import"):
        pickling.dumps_strict(value, drop)
    problem, path, _ = strictly(value, "result")
    assert path == "result['what']"
    assert problem == f"result['what'] ('{name}') {pickling.HIDDEN_MAIN}"


def test_main_that_can_be_imported_goes_by_value_where_workers_do_not_import_it(script):
    for name in ("auto", "pickle"):
        assert b"by_value" not in pickling.serializer(name)(script.f, drop)
    data = pickling.serializer("auto", imports_main=False)(script.f, drop)
    assert b"by_value" in data and pickle.loads(data)() == 1
    with pytest.raises(pickle.PicklingError, match="^'f' is defined in a __main__ that workers do not import"):
        pickling.serializer("pickle", imports_main=False)(script.f, drop)


def test_strict_serializer_takes_main_for_a_text(prompt):
    value = ["__main__", ("__main__", "f"), module_function, {"__main__": "f"}, [Bag(name="__main__")] * 3]
    data = pickling.dumps_strict(value, drop)
    assert pickle.loads(data)[:2] == value[:2]


def test_lock_that_a_function_of_a_prompt_refers_to_is_named(prompt):
    exec("import threading\nlock = threading.Lock()\ndef g(): return f, lock", vars(prompt))  # noqa: S102
    with pytest.raises(TypeError) as caught:
        pickling.dumps_auto((prompt.g, (), {}), drop)
    problem, path, _ = pickling.explain_task(prompt.g, (), {}, caught.value)
    assert path == "function.__globals__['lock']"
    assert LOCK in problem


def test_importing_costs_only_the_standard_library():
    text = (
        "import sys; before = set(sys.modules)\n"
        "from parapluie import pickling; pickling.dumps_auto((print, (1,), {}), print)\n"
        "roots = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(roots - set(sys.stdlib_module_names) - {'__mp_main__'}))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "['parapluie']"
