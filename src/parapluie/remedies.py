"""What to say about a thing that cannot be pickled: what it is, why, and what to do instead, in one clause each."""

from __future__ import annotations

import types
from typing import Any, NamedTuple

from parapluie.words import describe, type_name

_OWN = "create it in the worker (initializer=) or leave it out in __getstate__"
_OPEN = "open it in the worker (initializer=)"
_INHERITED = "it reaches other processes by inheritance only; use executor.shared"
_TOP_LEVEL = "define it at the top level of a module, or use serializer='auto'"
_LOOP = "an event loop and what runs in it stay in their process; send plain data"
_AWAITED = "it stays in its event loop; await it and send what that gives"
_WEAK = "send the object itself, or leave it out in __getstate__"

# By the full name of a type or of one of its bases, so that nothing has to be imported to tell.
_REMEDIES = {
    "_thread.lock": _OWN,
    "_thread.RLock": _OWN,
    "_thread._local": _OWN,
    "threading._RLock": _OWN,
    "threading.Barrier": _OWN,
    "threading.Condition": _OWN,
    "threading.Event": _OWN,
    "threading.Semaphore": _OWN,
    "threading.Thread": "start it in the worker",
    "subprocess.Popen": "start it in the worker",
    "queue.Queue": "use executor.shared.queue()",
    "_queue.SimpleQueue": "use executor.shared.queue()",
    "_io._IOBase": "send its path and open it in the worker",
    "mmap.mmap": "send its path and map it in the worker",
    "_socket.socket": _OPEN,
    "ssl.SSLContext": _OWN,
    "_ssl._SSLContext": _OWN,
    "sqlite3.Connection": _OPEN,
    "sqlite3.Cursor": _OPEN,
    "builtins.generator": "send a list of its items, or make it in the worker",
    "builtins.async_generator": "make it in the worker",
    "builtins.coroutine": "make it in the worker",
    "builtins.module": "import it inside of the function",
    "builtins.frame": "send what is needed of it as plain data",
    "builtins.traceback": "send its text (traceback.format_tb)",
    "builtins.memoryview": "send bytes or the object that it views",
    "concurrent.futures._base.Executor": (
        "an executor cannot be sent into a task; make one there, or leave it out in __getstate__"
    ),
    "multiprocessing.pool.Pool": (
        "a pool cannot be sent into a task; make an executor there, or leave it out in __getstate__"
    ),
    "parapluie.mapping.MapIterator": "send a list of its items",
    "parapluie.sharing.state.Shared": "send what it makes, such as executor.shared.dict()",
    "concurrent.futures._base.Future": "a future stays in the process that made it; send its result()",
    "multiprocessing.pool.ApplyResult": "a result stays in the process that made it; send what get() returns",
    "multiprocessing.connection._ConnectionBase": "the end of a pipe stays in its process; use executor.shared.queue()",
    "multiprocessing.context.BaseContext": "make it in the worker",
    "multiprocessing.process.BaseProcess": "start it in the worker",
    "multiprocessing.queues.Queue": _INHERITED,
    "multiprocessing.queues.SimpleQueue": _INHERITED,
    "multiprocessing.synchronize.Condition": _INHERITED,
    "multiprocessing.synchronize.Event": _INHERITED,
    "multiprocessing.synchronize.SemLock": _INHERITED,
    "multiprocessing.sharedctypes.SynchronizedBase": _INHERITED,
    "weakref.ReferenceType": _WEAK,
    "weakref.ProxyType": _WEAK,
    "weakref.CallableProxyType": _WEAK,
    "weakref.WeakKeyDictionary": _WEAK,
    "weakref.WeakValueDictionary": _WEAK,
    "asyncio.events.AbstractEventLoop": _LOOP,
    "_asyncio.Future": _AWAITED,
    "_asyncio.Task": _AWAITED,
    "asyncio.futures.Future": _AWAITED,
    "_contextvars.Context": "send the values that are needed",
    "_contextvars.ContextVar": "send the value that is needed",
    "_hashlib.HASH": "send its digest",
    "tkinter.Misc": "windows stay in their process; send plain data",
    "_tkinter.tkapp": "windows stay in their process; send plain data",
    "re.Match": "send the groups that are needed",
}

# The same for what a task returns, where that is more than this:
_RETURNED = "return what is needed of it as plain data, or leave it out in __getstate__"
_ITEMS = "return a list of its items"
_RUN = "run it in the task, as by asyncio.run(), and return what that returns"
_RESULT_REMEDIES = {
    "queue.Queue": f"{_ITEMS}, or use executor.shared.queue()",
    "_queue.SimpleQueue": f"{_ITEMS}, or use executor.shared.queue()",
    "_io._IOBase": "return its path, or what it holds",
    "builtins.generator": _ITEMS,
    "builtins.async_generator": _ITEMS,
    "builtins.coroutine": _RUN,
    "builtins.module": "return its name",
    "builtins.traceback": "return its text (traceback.format_tb)",
    "builtins.memoryview": "return bytes or the object that it views",
    "concurrent.futures._base.Executor": (
        "an executor stays in the process that made it; return what its tasks returned"
    ),
    "concurrent.futures._base.Future": "a future stays in the process that made it; return its result()",
    "multiprocessing.pool.Pool": "a pool stays in the process that made it; return what its tasks returned",
    "multiprocessing.pool.ApplyResult": "it stays in the process that made it; return what get() returns",
    "parapluie.mapping.MapIterator": _ITEMS,
    "_asyncio.Future": _RUN,
    "_asyncio.Task": _RUN,
    "asyncio.futures.Future": _RUN,
    "_hashlib.HASH": "return its digest",
    "re.Match": "return the groups that are needed",
}

# Where pickle lets a class take part, in the order in which it asks.
_METHODS = ("__reduce_ex__", "__reduce__", "__getnewargs_ex__", "__getnewargs__", "__getstate__")


class Finding(NamedTuple):
    """Where a search ended.

    Attributes:
        path, value: the culprit.
        failure: what pickling it raised; raised: what taking it apart raised, if that did.
    """

    path: str
    value: Any
    failure: BaseException
    raised: BaseException | None


def is_known(value: object) -> bool:
    """Say whether a failing value is of a kind whose remedy is about it, not about one of its parts."""
    return _entry(value, _REMEDIES) is not None


def is_recursion(failure: BaseException) -> bool:
    """Say whether pickling went too deep; cloudpickle wraps what the interpreter raises."""
    return isinstance(failure, RecursionError) or isinstance(failure.__cause__, RecursionError)


def problem(finding: Finding) -> str:
    """Return one clause: the path, what is there, why it cannot be pickled, and what to do."""
    path, value, failure, raised = finding
    kind = type_name(value)
    what = f"{path} is {'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind!r}"
    hook = _hook(value) if raised is not None else None
    remedy = _known(value, returned=path.startswith("result"))
    if remedy is None and is_recursion(failure):
        clause = f"{path} is nested too deeply to be pickled; flatten it, or refer to its parts by keys or numbers"
    elif remedy is None and _is_hidden(failure):
        clause = f"{path} ({value.__qualname__!r}) {failure}"
    elif remedy is None and isinstance(value, types.FunctionType | type):
        clause = _definition_problem(path, value, failure)
    elif remedy is None and hook is not None and raised is not None:
        clause = f"{what} whose {hook} raised {describe(raised)}"
    else:
        if remedy is None and type(value).__name__.lower() in ("connection", "cursor"):
            remedy = _OPEN
        clause = f"{what}, which cannot be pickled" + (f"; {remedy}" if remedy else f": {describe(failure)}")
    return clause


def _definition_problem(path: str, value: Any, failure: BaseException) -> str:
    name, noun = value.__qualname__, "class" if isinstance(value, type) else "function"
    if value.__name__ == "<lambda>":
        return f"{path} is a lambda, which cannot be pickled; {_TOP_LEVEL}"
    if "<locals>" in name:
        return f"{path} is the local {noun} {name!r}, which cannot be pickled; {_TOP_LEVEL}"
    return f"{path} is the {noun} {name!r}, which cannot be pickled: {describe(failure)}"


def _known(value: object, *, returned: bool) -> str | None:
    """Return what to do about a value of a known kind; with returned, as the result of a task."""
    remedy = _entry(value, _REMEDIES)
    if remedy is None or not returned:
        return remedy
    return _entry(value, _RESULT_REMEDIES) or _RETURNED


def _entry(value: object, remedies: dict[str, str]) -> str | None:
    for cls in type.mro(type(value)):
        remedy = remedies.get(f"{cls.__module__}.{cls.__qualname__}")
        if remedy is not None:
            return remedy
    return None


def _is_hidden(failure: BaseException) -> bool:
    from parapluie.pickling import HIDDEN_MAIN

    return failure.args == (HIDDEN_MAIN,)


def _hook(value: object) -> str | None:
    """Return which of pickle's methods the class defines by itself."""
    for name in _METHODS:
        if getattr(type(value), name, None) is not getattr(object, name, None):
            return name
    return None
