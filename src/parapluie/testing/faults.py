"""Faults that are injected for real, one after the other, and what became of the task and of all others.

They are tests of the conformance kit, and the lines of the table in docs/faults.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from parapluie import Executor, Shutdown, WorkerInitError
from parapluie.testing import channel_tasks, hostile, processes, session_tasks, tasks
from parapluie.testing.gates import Gate
from parapluie.testing.helpers import at_once, end_server, results_of, shut_down
from parapluie.testing.patience import SECONDS
from parapluie.testing.processes import LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parapluie import Future
    from parapluie.testing.fixtures import Row

OTHERS = 10  # tasks that run beside each fault


class Lab:
    """Where a fault is injected: executors on one row, and what the tasks need to say what they are at."""

    def __init__(self, row: Row, folder: Path) -> None:
        self.gate, self.notes = Gate(), str(folder / "notes")
        self._row, self._made = row, list[Executor]()

    def executor(self, max_workers: int = 2, **kwargs: Any) -> Executor:
        """Make an executor, which is shut down with the lab."""
        self._made.append(self._row.make(max_workers, **kwargs))
        return self._made[-1]

    def ends(self, executor: Executor, *parts: Any) -> str:
        """Submit a task that is at fault, among others; say what it ends with.

        Raises:
            AssertionError: if another one does not end as it should, then or later.
        """
        futures = [executor.submit(tasks.square, number) for number in range(OTHERS)]
        ending = outcome(lambda: executor.submit(*parts).result(SECONDS))
        self.goes_on(executor, futures)
        return ending

    def goes_on(self, executor: Executor, futures: Sequence[Future[Any]] = ()) -> None:
        """Check that other tasks end as they should."""
        more = [executor.submit(tasks.square, number) for number in range(OTHERS)]
        found = [*results_of(futures), *results_of(more)]
        wanted = [number * number for number in range(OTHERS)]
        assert found == wanted * (len(found) // OTHERS), found

    def close(self) -> None:
        """End what is left."""
        self.gate.open()
        shut_down(self._made)
        self.gate.close()


def outcome(run: Callable[[], object]) -> str:
    """Say what something ends with."""
    try:
        value = run()
    except TimeoutError as error:
        return type(error).__name__ if type(error) is not TimeoutError else "hang"
    except BaseException as error:  # noqa: BLE001 - SystemExit and CancelledError are endings as well
        return type(error).__name__
    return str(value)


class Fault(NamedTuple):
    """One fault.

    Attributes:
        what: what happens, for the table.
        inject: does it, and says what the task at fault ended with.
        ending: what that has to be.
        requires: what a backend must claim; on others the fault is not injected.
        otherwise: what happens there.
    """

    what: str
    inject: Callable[[Lab], str]
    ending: str
    requires: tuple[str, ...]
    otherwise: str

    def concerns(self, row: Row) -> bool:
        """Say whether it can be injected there."""
        return all(getattr(row.capabilities, name) for name in self.requires)

    def see(self, row: Row) -> str:
        """Inject it; say what the task at fault ended with."""
        with tempfile.TemporaryDirectory() as folder, _lab(row, Path(folder)) as lab:
            return self.inject(lab)


@contextmanager
def _lab(row: Row, folder: Path) -> Iterator[Lab]:
    lab = Lab(row, folder)
    try:
        yield lab
    finally:
        lab.close()


FAULTS: list[Fault] = []
_NO_PROCESS = "ends the program"
_NO_PICKLE = "nothing is pickled"


def fault(
    what: str, ending: str, *requires: str, otherwise: str = ""
) -> Callable[[Callable[[Lab], str]], Callable[[Lab], str]]:
    """Put a fault on the list."""

    def add(inject: Callable[[Lab], str]) -> Callable[[Lab], str]:
        FAULTS.append(Fault(what, inject, ending, requires, otherwise))
        return inject

    return add


# ---- tasks that fail ------------------------------------------------------------------------------------------------


@fault("a task raises", "ValueError")
def raises(lab: Lab) -> str:
    return lab.ends(lab.executor(), tasks.fail)


@fault("a task calls `sys.exit`", "SystemExit")
def exits(lab: Lab) -> str:
    return lab.ends(lab.executor(), tasks.die, "exit")


@fault("a task fails twice, under `Retry(3)`", "3")
def fails_twice(lab: Lab) -> str:
    return lab.ends(lab.executor(retry=at_once(3)), tasks.succeed_at, lab.notes, 3)


# ---- workers that die -----------------------------------------------------------------------------------------------


@fault("a task crashes in C code", "WorkerLostError", "survives_dead_worker", otherwise=_NO_PROCESS)
def crashes(lab: Lab) -> str:
    return lab.ends(lab.executor(), tasks.die, "crash")


@fault("a task calls `os._exit`", "WorkerLostError", "survives_dead_worker", otherwise=_NO_PROCESS)
def leaves(lab: Lab) -> str:
    return lab.ends(lab.executor(), tasks.die, "_exit")


@fault("its worker is killed from outside", "WorkerLostError", "survives_dead_worker", otherwise=_NO_PROCESS)
def is_killed(lab: Lab) -> str:
    executor = lab.executor()
    future = executor.submit(tasks.wait_for_ever, lab.gate.port)
    processes.kill(lab.gate.arrival().pid)
    ending = outcome(lambda: future.result(SECONDS))
    lab.goes_on(executor)
    return ending


@fault("an idle worker is killed", "16", "survives_dead_worker", otherwise=_NO_PROCESS)
def idle_one_is_killed(lab: Lab) -> str:
    executor = lab.executor(max_workers=1)
    processes.kill(executor.submit(tasks.pid).result(SECONDS))
    return lab.ends(executor, tasks.square, 4)


@fault("the first worker of a task crashes, under `Retry`", "survived", "survives_dead_worker", otherwise=_NO_PROCESS)
def crashes_once(lab: Lab) -> str:
    return lab.ends(lab.executor(retry=at_once(3)), tasks.die_once, lab.notes, "crash")


@fault(
    "a task kills worker after worker, under `Retry(3)`",
    "WorkerLostError",
    "survives_dead_worker",
    otherwise=_NO_PROCESS,
)
def kills_them_all(lab: Lab) -> str:
    ending = lab.ends(lab.executor(retry=at_once(3)), tasks.note_and_die, lab.notes, "_exit")
    assert Path(lab.notes).stat().st_size == 3
    return ending


@fault("an item of a `map` crashes", "WorkerLostError", "survives_dead_worker", otherwise=_NO_PROCESS)
def item_crashes(lab: Lab) -> str:
    executor = lab.executor(retry=at_once(2))  # those of its last millisecond run again
    outcomes = list(executor.map(partial(tasks.die_at, 10, "crash"), range(40), on_error="collect", chunksize=20))
    assert [found.index for found in outcomes if found.error] == [10]
    lab.goes_on(executor)
    return type(outcomes[10].error).__name__


@fault(
    "the worker of a session is killed", "WorkerLostError", "sessions", "survives_dead_worker", otherwise=_NO_PROCESS
)
def session_is_killed(lab: Lab) -> str:
    executor = lab.executor()
    session = executor.session(session_tasks.echo)
    assert session.pid is not None
    processes.kill(session.pid)
    ending = outcome(lambda: session.recv(SECONDS))
    lab.goes_on(executor)
    return ending


# ---- tasks that do not end ------------------------------------------------------------------------------------------

_CANNOT_KILL = "a `task_timeout` is refused"


@fault("a task overruns its `task_timeout`", "TaskTimeoutError", "kills_running_task", otherwise=_CANNOT_KILL)
def overruns(lab: Lab) -> str:
    executor = lab.executor()
    view = executor.with_options(task_timeout=LIMIT)
    ending = outcome(lambda: view.submit(tasks.wait_for_ever, lab.gate.port).result(SECONDS))
    lab.goes_on(executor)
    return ending


@fault(
    "a running task is ended by `cancel(running=True)`",
    "CancelledError",
    "kills_running_task",
    otherwise="`cancel` says False",
)
def is_ended(lab: Lab) -> str:
    executor = lab.executor()
    future = executor.submit(tasks.wait_for_ever, lab.gate.port)
    lab.gate.arrival()
    assert future.cancel(running=True)
    lab.goes_on(executor)
    return outcome(lambda: future.result(0))


@fault(
    "a task never ends, at `Shutdown(drain=False)`",
    "WorkerLostError",
    "survives_dead_worker",
    otherwise="is awaited for the grace period",
)
def outstays(lab: Lab) -> str:
    executor = lab.executor(shutdown=Shutdown(drain=False, grace=0.2))
    future = executor.submit(tasks.wait_for_ever, lab.gate.port)
    lab.gate.arrival()
    shut_down([executor])
    return outcome(lambda: future.result(0))


# ---- what cannot travel ---------------------------------------------------------------------------------------------


@fault("an argument cannot be pickled", "TaskPicklingError", "isolated_memory", otherwise=_NO_PICKLE)
def argument_stays(lab: Lab) -> str:
    return lab.ends(lab.executor(), tasks.same, hostile.Hostile("pickled", "error"))


@fault("an argument cannot be read in the worker", "TaskUnpicklingError", "isolated_memory", otherwise=_NO_PICKLE)
def argument_is_not_read(lab: Lab) -> str:
    return lab.ends(lab.executor(), tasks.same, hostile.Hostile("read back", "error"))


@fault(
    "an argument crashes the worker that reads it",
    "WorkerLostError",
    "isolated_memory",
    "survives_dead_worker",
    otherwise=_NO_PICKLE,
)
def argument_crashes(lab: Lab) -> str:
    return lab.ends(lab.executor(), tasks.same, hostile.Hostile("read back", "crash"))


@fault("a result cannot be pickled", "ResultPicklingError", "isolated_memory", otherwise=_NO_PICKLE)
def result_stays(lab: Lab) -> str:
    return lab.ends(lab.executor(), hostile.return_hostile, "pickled", "error")


@fault("a result cannot be read back", "ResultUnpicklingError", "isolated_memory", otherwise=_NO_PICKLE)
def result_is_not_read(lab: Lab) -> str:
    return lab.ends(lab.executor(), hostile.return_hostile, "read back", "error")


@fault("an exception cannot be read back", "HostileError", "isolated_memory", otherwise=_NO_PICKLE)
def exception_is_not_read(lab: Lab) -> str:
    return lab.ends(lab.executor(), hostile.raise_hostile, "read back", "error")


# ---- what tasks share -----------------------------------------------------------------------------------------------

_NO_SERVER = "there is no server"
_SHARED = "shared_state", "isolated_memory"


@fault(
    "a worker dies while it holds a shared lock",
    "WorkerLostError",
    *_SHARED,
    "survives_dead_worker",
    otherwise=_NO_PROCESS,
)
def lock_holder_dies(lab: Lab) -> str:
    executor = lab.executor()
    lock = executor.shared.lock()
    ending = lab.ends(executor, tasks.acquire_and_die, lock, "_exit")
    assert lock.acquire(timeout=SECONDS), "nobody can acquire it any more"
    return ending


@fault("the server of shared state is killed", "SharedStateLostError", *_SHARED, otherwise=_NO_SERVER)
def server_is_killed(lab: Lab) -> str:
    executor = lab.executor()
    items = executor.shared.list()
    end_server(executor)
    return lab.ends(executor, tasks.append_square, items, 3)


_NO_CHANNELS = "there are no channels"


@fault("the last producer of a channel raises: its consumer", "ChannelBrokenError", "channels", otherwise=_NO_CHANNELS)
def producer_raises(lab: Lab) -> str:
    executor = lab.executor()
    channel = executor.channel()
    executor.submit(channel_tasks.put_and_fail, channel, [1]).exception(SECONDS)
    return lab.ends(executor, channel_tasks.take_all, channel)


@fault(
    "the last producer of a channel dies: its consumer",
    "ChannelBrokenError",
    "channels",
    "survives_dead_worker",
    otherwise=_NO_PROCESS,
)
def producer_dies(lab: Lab) -> str:
    executor = lab.executor()
    channel = executor.channel()
    executor.submit(channel_tasks.put_and_die, channel, [1], "_exit").exception(SECONDS)
    return lab.ends(executor, channel_tasks.take_all, channel)


@fault(
    "a consumer dies with an item of a channel in hand: the next one",
    "[2, 3]",
    "channels",
    "survives_dead_worker",
    otherwise=_NO_PROCESS,
)
def consumer_dies(lab: Lab) -> str:
    executor = lab.executor()
    channel = executor.channel()
    channel.put_many([1, 2, 3])
    channel.close()
    executor.submit(channel_tasks.take_batch_and_die, channel, 1).exception(SECONDS)
    return lab.ends(executor, channel_tasks.take_all, channel)


# ---- workers that cannot start --------------------------------------------------------------------------------------


@fault("the initializer raises", "WorkerInitError", "initializer", otherwise="an initializer is refused")
def initializer_raises(lab: Lab) -> str:
    return _cannot_start(lab.executor(initializer=tasks.fail_to_prepare, initargs=("no disk",)))


@fault(
    "the initializer ends its worker", "WorkerInitError", "initializer", "survives_dead_worker", otherwise=_NO_PROCESS
)
def initializer_dies(lab: Lab) -> str:
    return _cannot_start(lab.executor(initializer=tasks.die_preparing, initargs=("_exit",)))


@fault(
    "the initializer never ends",
    "WorkerInitError",
    "initializer",
    "survives_dead_worker",
    otherwise="the first task waits for it",
)
def initializer_hangs(lab: Lab) -> str:
    hanging = {"initializer": tasks.wait_for_ever, "initargs": (lab.gate.port,)}
    return _cannot_start(lab.executor(max_workers=1, start_timeout=LIMIT, **hanging))


def _cannot_start(executor: Executor) -> str:
    endings = set()
    with suppress(WorkerInitError):  # `submit` raises it as soon as it is known
        for _ in range(5):
            endings.add(outcome(partial(executor.submit(tasks.square, 1).result, SECONDS)))
    (ending,) = endings
    return ending
