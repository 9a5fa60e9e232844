"""The start of a session's process, in the program."""

from __future__ import annotations

from contextlib import ExitStack

from parapluie import logs, orphans
from parapluie.cpu_peers import cpu_peers
from parapluie.dumps import DumpFile
from parapluie.records import NamedTuple
from parapluie.sharing import session_worker
from parapluie.sharing.session_port import Port, pipe
from parapluie.starting import ask_for_descriptors, start_helpers, start_lock, starting, threads_beside
from parapluie.words import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from parapluie.dispatch import Dispatcher
    from parapluie.logs import LogPipe


class Started(NamedTuple):
    """A process that was started, and what this one has of it, which is the caller's to close."""

    process: Any
    port: Port
    logs: LogPipe
    dump: DumpFile


def start_process(dispatcher: Dispatcher, session: str, number: int, log_host: Any) -> Started:
    """Start a session's process, by the executor's start method.

    Args:
        session, number: what it is called. log_host: is told of log records, by `logged`.

    Raises:
        WorkerInitError: if the system refuses.
        ForkWithThreadsWarning: where warnings are errors; then nothing was started.
    """
    method = dispatcher.context.get_start_method()
    start_helpers(method)
    if threads := threads_beside(method):
        from parapluie.fork_threads import warn_of_threads

        warn_of_threads(threads, dispatcher)
    try:
        with ExitStack() as undo, start_lock():  # which is held from the first pipe on
            started = _start(dispatcher, session, number, log_host, method, undo)
            undo.pop_all()
            return started
    except (OSError, RuntimeError, AssertionError) as error:  # no memory, no descriptors; a daemon may start none
        raise could_not_start(dispatcher.backend, error) from error


def could_not_start(backend: str, error: BaseException) -> BaseException:
    """Make the error that says that the system refused to start a worker."""
    from parapluie.pool_errors import WorkerInitError

    return WorkerInitError(backend, f"a process could not be started: {describe(error)}")


def _start(dispatcher: Dispatcher, session: str, number: int, log_host: Any, method: str, undo: ExitStack) -> Started:
    ours, theirs = pipe()
    undo.callback(ours.close)
    undo.callback(theirs.close)
    dump = DumpFile()
    undo.callback(dump.close)
    log_pipe = logs.log_pipe(log_host)
    undo.callback(log_pipe.close)
    inherited = (ours.fileno(), *log_pipe.descriptors) if method == "fork" else ()
    context: Any = dispatcher.context
    process = context.Process(
        target=session_worker.main,
        # The dump file first: where the guard is missing, the rest may need a main module that is not there.
        args=(dump, theirs, dispatcher.bootstrap, inherited),
        kwargs={
            "session": session,
            "peers": cpu_peers() * dispatcher.max_workers,
            "logs": (logs.log_settings(), log_pipe.end),
        },
        name=f"parapluie-session-{number}",
    )
    with starting(method, hide_main=not dispatcher.settings.capabilities.imports_main):
        ask_for_descriptors(ours.fileno())
        process.start()
        orphans.bind(process)
    theirs.close()
    return Started(process, Port(ours, process), log_pipe, dump)
