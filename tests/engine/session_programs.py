"""Programs with sessions that the tests of faults run, interrupt and kill, as those in fault_programs.py."""

from __future__ import annotations

import sys
import threading
import time

import fault_tasks as tasks
from fault_programs import answer, held, make, run_program
from fault_tasks import SECONDS

from parapluie import Session, Shutdown, condition
from parapluie.sharing import session_port, session_wire

LARGE = b"x" * 1_000_000  # more than a pipe has room for


# ---- functions of sessions --------------------------------------------------------------------------------------


def echo(connection):
    for message in connection:
        connection.send(message)


def get_stuck(connection, port, how, label=""):
    """Tell the gate that one is here, and be at something."""
    tasks.arrive(port, label)
    if how == "receiving":
        list(connection)
    elif how == "sending":
        while True:
            connection.send(LARGE)
    else:
        tasks.WAYS_TO_BE_STUCK[how]()


def send_ten(connection):
    for _ in range(10):
        connection.send(LARGE)
    return 10


def note_the_end(connection, port, notes):
    """Tell the gate that one is here, and note the end of the session."""
    tasks.arrive(port, "session")
    for _ in connection:
        pass
    tasks.note(notes, "closed")


# ---- to be killed -----------------------------------------------------------------------------------------------


def be_killed(backend, method, port, how):
    """Have two sessions that are at something, and be at something as well."""
    kwargs = {"initializer": tasks.get_stuck, "initargs": (port, "waiting")} if how == "starting" else {}
    executor = make(backend, method, **kwargs)
    if how == "starting":
        for _ in range(2):
            threading.Thread(target=executor.session, args=(echo,), daemon=True).start()
    else:
        sessions = [executor.session(get_stuck, port, how, str(number)) for number in range(2)]
        if how == "in C":
            sessions[0].send(LARGE)
    threading.Event().wait()


# ---- to be interrupted ------------------------------------------------------------------------------------------


def be_interrupted(backend, method, port, notes, *, place, ends, grace):
    """Wait in a place for an interrupt, in the block of a session."""
    executor = make(backend, method, shutdown=Shutdown(grace=grace))
    function, args = (note_the_end, (port, notes)) if ends else (get_stuck, (port, "waiting", "session"))
    with executor, executor.session(function, *args) as session:
        _knock_when_waiting(port)
        if place == "recv":
            session.recv()
        elif place == "send":
            while True:
                session.send(LARGE)
        elif place == "result":
            session.result()


def _knock_when_waiting(port):
    """Have a thread tell the gate when the main thread waits at a wire, and when it waits for the end of a session."""
    main = threading.main_thread().ident
    files = {session_port.__file__, session_wire.__file__, condition.__file__}

    def watch():
        for label, at_end in (("waiting", False), ("waiting for the end", True)):
            while True:
                names = [frame.f_code.co_name for frame in _frames(main, files)]
                if names and "wait" in names[0] and ("end_sessions" in names or not at_end):
                    break
                time.sleep(0.001)
            tasks.arrive(port, label)

    threading.Thread(target=watch, daemon=True).start()


def _frames(thread, files):
    """Return the frames of a thread, if the innermost one is in one of these files."""
    frame = sys._current_frames().get(thread)  # none while it prints the traceback that the program ends by
    if frame is not None and frame.f_code.co_filename in files:
        while frame is not None:
            yield frame
            frame = frame.f_back


# ---- to end without a shutdown ----------------------------------------------------------------------------------

kept = []  # as a module's own


def end_with_an_open_session(backend, method, port, notes, *, ends, grace):
    executor = make(backend, method, shutdown=Shutdown(grace=grace))
    function, args = (note_the_end, (port, notes)) if ends else (get_stuck, (port, "waiting", "session"))
    kept.extend([executor, executor.session(function, *args)])


# ---- to leave nothing -------------------------------------------------------------------------------------------


def open_and_close(backend, method, count):
    """Have executors with sessions that end in several ways; print what is held before and after."""
    _have_sessions(backend, method)  # what the standard library starts once and keeps
    before = held()
    for _ in range(count):
        _have_sessions(backend, method)
    answer([before, held()])


def _have_sessions(backend, method):
    with make(backend, method) as executor:
        for end in (Session.close, Session.kill, lambda session: session.__exit__(None, None, None), str):
            session = executor.session(echo)
            session.send(1)
            assert session.recv(SECONDS) == 1
            end(session)  # and then it is dropped; the last one while it is open
        kept = executor.session(echo)
    assert kept.result(0) is None


if __name__ == "__main__":
    run_program(globals())
