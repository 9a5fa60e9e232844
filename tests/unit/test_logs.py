"""The way of log records from a worker to its parent, without either of them."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from parapluie import logs, worker_logs
from parapluie.logs import log_pipe, log_settings
from parapluie.testing.helpers import SECONDS
from parapluie.worker_logs import CHUNK, HEAD, Channel, pack

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="of pipes that do not block")


class Host:
    def __init__(self):
        self.records = []

    def logged(self, call_id, item, pid, record):
        self.records.append((call_id, item, pid, bytes(record)))


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def pipe(host):
    pipe = log_pipe(host)
    yield pipe
    pipe.close()


@pytest.fixture
def channel(pipe):
    return Channel(pipe.end, lambda: (7, 3))


def record_of(text="text", *args, name="app", level=logging.WARNING, **fields):
    record = logging.LogRecord(name, level, "file.py", 1, text, args, None)
    vars(record).update(fields)
    return record


def descriptors():
    folder = Path("/dev/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def unpacked(record):
    fields, more = pickle.loads(pack(record))
    return {**fields, **{name: pickle.loads(data) for name, data in more}}


# ---- the pipe ---------------------------------------------------------------------------------------------------


def test_records_of_any_size_come_whole_and_in_order(pipe, host, channel):
    sent = [b"x" * size for size in (0, 1, 500, 600, 5_000, 40_000)]
    for record in sent:
        channel.send(record)
        pipe.drain()
    assert host.records == [(7, 3, os.getpid(), record) for record in sent]


def test_records_of_many_threads_are_not_mixed_up(pipe, host, channel):
    def send(letter):
        for _ in range(20):
            channel.send(letter * 10_000)

    threads = [threading.Thread(target=send, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        pipe.drain()
    pipe.drain()
    assert sorted(record for *_, record in host.records) == sorted(
        [letter * 10_000 for letter in (b"a", b"b", b"c")] * 20
    )


def test_drain_ends_though_more_and_more_comes(pipe, host, channel):
    """Who drains has answers to tell as well."""
    host.logged = lambda *_: channel.send(b"one more")
    channel.send(b"the first")
    pipe.drain()


@on_posix
def test_what_a_dead_worker_had_not_finished_is_dropped(pipe, host, channel):
    data = HEAD.pack(1, 0, 99) + b"whole"
    os.write(pipe.end.fd, CHUNK.pack(99, 1, 1, len(data)) + data)
    os.write(pipe.end.fd, CHUNK.pack(99, 2, 0, 5) + b"begun")
    pipe.worker_died(99)
    assert host.records == [(1, 0, 99, b"whole")] and not pipe._records._parts


@on_posix
def test_who_is_not_read_for_long_goes_on_without_and_says_so(pipe, host, channel, monkeypatch, caplog):
    monkeypatch.setattr(worker_logs, "_WAIT_SECONDS", 0.0)
    count = 0
    while not channel._dropped:
        channel.send(b"x" * 1000)
        count += 1
    monkeypatch.setattr(worker_logs, "_WAIT_SECONDS", 3600.0)  # which nobody waits for a second time
    channel.send(b"y" * 1000)
    pipe.drain()
    assert len(host.records) == count - 1
    channel.send(b"heard again")
    pipe.drain()
    assert host.records[-1][3] == b"heard again"
    assert "2 log records of worker process" in caplog.text


def test_worker_whose_parent_is_gone_goes_on(host):
    pipe = log_pipe(host)
    channel = Channel(pipe.end, lambda: (0, 0))
    pipe.close()
    channel.send(b"to nobody")
    assert host.records == []


def test_pipe_may_be_closed_again_and_leaves_no_descriptor(host):
    before = descriptors()
    for _ in range(5):
        pipe = log_pipe(host)
        pipe.close()
        pipe.close()
        pipe.drain()
    assert descriptors() == before


# ---- records ----------------------------------------------------------------------------------------------------


def test_plain_arguments_stay_as_they_are():
    fields = unpacked(record_of("%d of %s", 1, "two"))
    assert (fields["msg"], fields["args"]) == ("%d of %s", (1, "two"))


def test_other_arguments_are_formatted_where_they_are():
    fields = unpacked(record_of("%s and %s", threading.Lock, [1]))
    assert (fields["msg"], fields["args"]) == (f"{threading.Lock} and [1]", None)


def test_message_that_cannot_be_formatted_says_so():
    fields = unpacked(record_of("%d", [object]))
    assert "'%d' cannot be formatted with" in fields["msg"] and "TypeError" in fields["msg"]


def test_message_that_is_no_text_becomes_one():
    assert unpacked(record_of(ValueError("as a message")))["msg"] == "as a message"


@pytest.mark.parametrize("form", ["tuple", "exception", "true"])
def test_traceback_becomes_text(form):
    try:
        int("raised")
    except ValueError as error:
        forms = {"tuple": sys.exc_info(), "exception": error, "true": True}
        fields = unpacked(record_of(exc_info=forms[form]))
    assert fields["exc_info"] is None and fields["exc_text"].endswith("'raised'")


def test_what_was_added_and_cannot_be_read_does_not_harm_the_record(caplog):
    fields, _ = pickle.loads(pack(record_of("text", name="app")))
    data = pickle.dumps((fields, [("strange", b"no pickle"), ("numbers", pickle.dumps([1]))]))
    logs.handle(data, task="t", attempt=1, worker="w")
    (record,) = caplog.records
    assert record.numbers == [1] and "cannot be read" in record.strange


def test_record_that_has_come_a_longer_way_keeps_its_first_names(caplog):
    first = record_of(parapluie_task="inner", parapluie_attempt=2, parapluie_worker="w-1")
    logs.handle(pack(first), task="outer", attempt=1, worker="w-2")
    (record,) = caplog.records
    assert (record.parapluie_task, record.parapluie_attempt, record.parapluie_worker) == ("inner", 2, "w-1")


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_filter_that_raises_is_reported_and_disturbs_nothing(caplog, error):
    def refuse(_record):
        raise error("a filter's")

    logger = logging.getLogger("app.filtered")
    logger.addFilter(refuse)
    data = pack(record_of(name="app.filtered"))
    try:
        with ThreadPoolExecutor() as engine:  # as an engine's thread does
            engine.submit(logs.handle, data, task=None, attempt=None, worker="w").result(SECONDS)
    finally:
        logger.removeFilter(refuse)
    assert "a log record of worker w could not be handled" in caplog.text and "a filter's" in caplog.text


# ---- levels -----------------------------------------------------------------------------------------------------

PROGRAM = """
import logging

from parapluie.logs import log_settings

{setup}
disable, settings = log_settings()
print(disable, settings)
"""


@pytest.mark.parametrize(
    ("setup", "shown"),
    [
        ("", "0 {'': (30, False, 30)}"),
        ("logging.basicConfig(level=10)", "0 {'': (10, False, 0)}"),
        ("logging.basicConfig(level=10); logging.root.handlers[0].setLevel(40)", "0 {'': (10, False, 40)}"),
        ("logging.disable(25); logging.getLogger('a.b')", "25 {'': (30, False, 30)}"),
        ("logging.getLogger('a.b').setLevel(5)", "0 {'': (30, False, 30), 'a.b': (5, False, 30)}"),
        ("logging.lastResort = None", f"0 {{'': (30, False, {1 << 30})}}"),
        (
            "logging.getLogger('a').addHandler(logging.NullHandler())",
            f"0 {{'': (30, False, 30), 'a': (0, False, {1 << 30})}}",
        ),
        (
            "logging.basicConfig(); logging.getLogger('a').addHandler(logging.NullHandler())",
            "0 {'': (30, False, 0), 'a': (0, False, 0)}",
        ),
        (
            "logging.basicConfig(); logging.getLogger('a').propagate = False",
            "0 {'': (30, False, 0), 'a': (0, False, 30)}",
        ),
    ],
)
def test_settings_say_what_some_handler_would_take(setup, shown):
    code = PROGRAM.format(setup=setup)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout.strip() == shown


def test_settings_can_be_sent():
    assert pickle.loads(pickle.dumps(log_settings())) == log_settings()


TAKE_OVER = """
import logging

from parapluie import worker_logs

{before}
sent = []
worker_logs.take_over({settings}, sent.append, ours={ours})
{after}
import pickle
print([pickle.loads(data)[0]["msg"] for data in sent])
"""


@pytest.mark.parametrize(
    ("before", "settings", "ours", "after", "shown"),
    [
        # Handlers from before are copies of the parent's.
        ("logging.basicConfig()", (0, {"": (30, False, 0)}), True, "logging.warning('a')", "['a']"),
        # Not where the process is somebody else's.
        ("logging.basicConfig()", (0, {"": (30, False, 0)}), False, "logging.warning('a')", "[]"),
        ("", (0, {"": (30, False, 0)}), False, "logging.warning('a')", "['a']"),
        # The levels are the parent's, and nothing is sent that no handler takes there.
        ("", (0, {"": (20, False, 0)}), True, "logging.debug('a'); logging.info('b')", "['b']"),
        ("", (0, {"": (10, False, 40)}), True, "logging.warning('a'); logging.error('b')", "['b']"),
        ("", (0, {"": (30, False, 0), "x": (0, False, 1 << 30)}), True, "logging.getLogger('x.y').error('a')", "[]"),
        ("", (0, {"": (30, False, 0), "x": (0, True, 0)}), True, "logging.getLogger('x').error('a')", "[]"),
        ("", (40, {"": (30, False, 0)}), True, "logging.error('a'); logging.critical('b')", "['b']"),
        # A library's NullHandler is none; one that does not take a record leaves it to the parent.
        (
            "",
            (0, {"": (30, False, 0)}),
            True,
            "log = logging.getLogger('lib'); log.addHandler(logging.NullHandler()); log.warning('a')",
            "['a']",
        ),
        (
            "",
            (0, {"": (30, False, 0)}),
            True,
            "logging.basicConfig(); logging.root.handlers[0].setLevel(40); logging.warning('a')",
            "['a']",
        ),
    ],
)
def test_worker_sends_what_no_handler_of_its_own_takes(before, settings, ours, after, shown):
    code = TAKE_OVER.format(before=before, settings=settings, ours=ours, after=after)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout.strip() == shown


def test_logging_calls_its_handlers_by_one_method():
    """What is replaced in a worker."""
    import inspect

    assert list(inspect.signature(logging.Logger.callHandlers).parameters) == ["self", "record"]
    assert "self.callHandlers(" in inspect.getsource(logging.Logger.handle)


HOOK = """
import sys

from parapluie import log_ways

assert "logging" not in sys.modules
said = []
log_ways._after_import("logging", lambda: said.append(hasattr(sys.modules["logging"], "root")))
finders = len(sys.meta_path)
import json
assert said == [] and len(sys.meta_path) == finders
import logging.handlers
import logging
assert len(sys.meta_path) == finders - 1
assert type(logging.__spec__.loader) is type(logging.__loader__) is type(json.__loader__)
log_ways._after_import("logging", lambda: said.append("at once"))
print(said)
"""


def test_import_of_logging_is_seen_and_left_as_it_is():
    done = subprocess.run([sys.executable, "-c", HOOK], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout.strip() == "[True, 'at once']"


def test_module_that_another_thread_has_half_imported_sends_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "parapluie.worker_logs", ModuleType("parapluie.worker_logs"))
    monkeypatch.setattr(logging.root, "handlers", [])
    logging.getLogger("parapluie.test_logs.half").setLevel(logging.INFO)
    assert log_settings()
