"""Programs that the tests of faults run, watch, interrupt and kill: `python fault_programs.py NAME ARGUMENTS`."""

from __future__ import annotations

import atexit
import gc
import json
import multiprocessing
import os
import sys
import threading
import time
import warnings
import zlib
from concurrent.futures import wait
from contextlib import suppress
from functools import partial
from pathlib import Path

import fault_tasks as tasks
from fault_tasks import SECONDS

from parapluie import Executor, ForkWithThreadsWarning, Shutdown, condition

if __name__ == "__mp_main__" and "FAULT_DEATHS" in os.environ:  # a worker imports this
    tasks.die_preparing(os.environ["FAULT_NOTES"], "killed", int(os.environ["FAULT_DEATHS"]))


def make(backend, method, max_workers=2, **kwargs):
    return Executor(backend, max_workers, start_method=method, **kwargs)


def answer(value):
    print(json.dumps(value), flush=True)  # noqa: T201 - the program's output is the test's input


def knock_when_waiting(port, *labels, again=lambda: True):
    """Have a thread tell the gate when the main thread waits for something; with two labels, once more after that.

    The second time is when the condition `again` holds besides.
    """
    main = threading.main_thread().ident

    def watch():
        for label, ready in zip(labels, (lambda: True, again), strict=False):
            while not (ready() and _waits(sys._current_frames().get(main))):
                time.sleep(0.005)
            tasks.arrive(port, label)

    threading.Thread(target=watch, daemon=True).start()


def _waits(frame):
    """Say whether a thread waits, for a future or something of `threading`, but for the start of another one."""
    if frame is None:  # the main thread has none while it prints the traceback that the program ends by
        return False
    waits = frame.f_code.co_filename in {threading.__file__, condition.__file__}
    waits = waits and frame.f_code.co_name.lstrip("_").startswith("wait")
    while waits and frame is not None:
        if frame.f_code is threading.Thread.start.__code__:
            return False
        frame = frame.f_back
    return waits


# ---- to start workers that die ----------------------------------------------------------------------------------


def square_here(number):
    return number * number


def square_in_main(backend, method):
    with make(backend, method) as executor:
        answer([future.result() for future in [executor.submit(square_here, number) for number in range(20)]])


# ---- to be killed -----------------------------------------------------------------------------------------------


def be_killed(backend, method, port, how):
    """Have two workers that are idle, or stuck in a task or in their initializer."""
    kwargs = {"initializer": tasks.get_stuck, "initargs": (port, "waiting")} if how == "starting" else {}
    executor = make(backend, method, **kwargs)
    if how in {"idle", "starting"}:
        futures = [executor.submit(tasks.wait_at, port, str(number)) for number in range(2)]
    else:
        futures = [executor.submit(tasks.get_stuck, port, how, str(number)) for number in range(2)]
    wait(futures)
    tasks.arrive(port, "idle")
    threading.Event().wait()


# ---- to be interrupted ------------------------------------------------------------------------------------------


class Interrupted:
    """Two tasks that run, some that wait, and a program that waits in one of many places."""

    def __init__(self, executor, port, notes, *, ends, again):
        self.executor, self.port, self.notes, self.again = executor, port, notes, again
        self.task = partial(tasks.wait_at, port) if ends else partial(tasks.get_stuck, port, "waiting")
        self.running, self.waiting = [], []

    def begin(self):
        self.running = [self.executor.submit(self.task, str(number)) for number in range(2)]
        self.waiting = [self.executor.submit(tasks.note, self.notes) for _ in range(20)]
        if self.again == "while it cancels":
            self._when_all_are_cancelled(lambda: tasks.wait_at(self.port, "cancelled"))
        else:
            self._when_all_are_cancelled(lambda: tasks.arrive(self.port, "cancelled"))
        labels = ["waiting", "waiting again"] if self.again == "while it waits" else ["waiting"]
        knock_when_waiting(self.port, *labels, again=lambda: all(future.done() for future in self.waiting))

    def _when_all_are_cancelled(self, do):
        left = set(self.waiting)

        def one_less(future):
            left.discard(future)
            if not left:
                do()

        for future in self.waiting:
            future.add_done_callback(one_less)

    def fates(self):
        """Say what became of the tasks: of those that ran, and of those that waited."""
        return [fate(future) for future in self.running], sorted({fate(future) for future in self.waiting})

    # The places:

    def result(self):
        with self.executor:
            self.begin()
            self.running[0].result()

    def map(self):
        with self.executor:
            results = self.executor.map(self.task, map(str, range(50)), chunksize=1)
            knock_when_waiting(self.port, "waiting")
            list(results)

    def end_of_block(self):
        with self.executor:
            self.begin()

    def shutdown(self):
        self.begin()
        self.executor.shutdown()

    def exit(self):
        self.begin()


def fate(future):
    if not future.done():
        return "open"
    return "cancelled" if future.cancelled() else type(future.exception()).__name__


def be_interrupted(backend, method, port, notes, *, place, ends, grace, again=""):
    """Wait in a place for an interrupt; with again, tell when it is time for the second one."""
    program = Interrupted(make(backend, method, shutdown=Shutdown(grace=grace)), port, notes, ends=ends, again=again)
    if place == "exit":
        atexit.register(lambda: answer(program.fates()))
        program.exit()
        return
    try:
        getattr(program, place)()
    finally:
        answer(program.fates())


def be_interrupted_while_a_worker_starts(backend, method, port):
    """Wait for workers that are still at reading what they are to run."""
    what = multiprocessing.get_context(method).Lock(), tasks.WaitsWhenRead(port, "reading")
    with make(backend, method, initializer=tasks.ignore, initargs=what) as executor:
        executor.submit(tasks.pid).result()


# ---- to end without a shutdown ----------------------------------------------------------------------------------


def note_here(path, number):
    """Belong to the main module."""
    return tasks.note(path, number)


def wait_here(port, label):
    return tasks.wait_at(port, label)


kept = []  # as a module's own executor


def end_without_shutdown(backend, method, port, notes, how):
    """End with tasks that run and tasks that wait; new workers are needed for most of them."""
    cannot_fork = method == "fork" and sys.version_info[:2] == (3, 12)  # early releases refuse to at interpreter exit
    patience = Shutdown(grace=SECONDS)  # to end, a worker has to have started
    executor = make(backend, method, max_tasks_per_child=None if cannot_fork else 8, shutdown=patience)
    kept.append(executor)
    kept.extend(executor.submit(wait_here, port, str(number)) for number in range(2))
    kept.extend(executor.submit(note_here, notes, number) for number in range(20))
    kept.append(executor.map(partial(note_here, notes), range(20, 40), chunksize=5))
    knock_when_waiting(port, "exit")
    if how == "collected":
        kept.clear()
        del executor
        gc.collect()
    elif how == "by an error":
        raise LookupError("the program's own")


# ---- to be short of room ----------------------------------------------------------------------------------------


def exchange_with_small_files(backend, method):
    """Exchange buffers where no file may be larger than a megabyte."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    report = []
    with make(backend, method) as executor:
        for size in (1 << 18, 1 << 22, 1 << 19):
            block = tasks.Block(bytearray(tasks.large(size, size)))
            checksum, result = executor.submit(tasks.exchange, block, size, size).result(SECONDS)
            assert checksum == zlib.crc32(result.data)
            report.append((len(result.data), checksum))
    answer(report)


# ---- to leave nothing -------------------------------------------------------------------------------------------


def open_and_close(backend, method, notes, count):
    """Open and close many executors; print what is held before and after."""
    multiprocessing.current_process()._config["semprefix"] = f"/{os.environ['FAULT_TOKEN']}"  # so that they are known
    with make(backend, method) as executor:  # what the standard library starts once and keeps, two workers' worth
        assert [future.result() for future in [executor.submit(tasks.meet, notes, 2) for _ in range(2)]] == [None, None]
    before = held()
    for number in range(1, count):
        with make(backend, method) as executor:
            if number % 5:
                assert executor.submit(tasks.square, number).result(SECONDS) == number * number
            if number % 5 == 2:
                assert list(executor.map(tasks.square, range(9), chunksize=3)) == [n * n for n in range(9)]
    answer([before, held()])


def held():
    """Say what this process holds, when the last of our threads has ended."""
    for thread in threading.enumerate():
        if thread.name.startswith("parapluie"):
            thread.join(SECONDS)  # it has said that all has ended, and ends itself
    return {
        "descriptors": sorted(_descriptors()),
        "threads": [thread.name for thread in threading.enumerate()],
        "children": len(multiprocessing.active_children()),
        "semaphores": sum("/sem." in line for line in _maps()),
        "pages": sum("parapluie-page" in line for line in _maps()),
    }


def _descriptors():
    """Say what is open."""
    for path in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            yield str(path.readlink())


def _maps():
    path = Path("/proc/self/maps")
    return path.read_text().splitlines() if path.exists() else []


# ---- to run short of descriptors --------------------------------------------------------------------------------


def run_short_of_descriptors(method):
    """Make executors with ever more descriptors to spare; print how each went, and what it left."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with make("process", method) as executor:
        executor.submit(tasks.square, 1).result(SECONDS)
    report = []
    for spare in range(40):
        before = held()
        resource.setrlimit(resource.RLIMIT_NOFILE, (_limit(spare), hard))
        try:
            with make("process", method, 1) as executor:
                how = fate_of(executor.submit(tasks.square, 3))
        except OSError as error:
            how = f"{type(error).__name__}: {error}"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        gc.collect()
        report.append((how, before, held()))
        if how == 9:
            break
    answer(report)


def fate_of(future):
    error = future.exception(SECONDS)
    return future.result() if error is None else f"{type(error).__name__}: {error}"


def _limit(spare):
    """Return the limit that leaves so many descriptors that can be opened."""
    used = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    limit = 0
    while spare >= 0:
        spare -= limit not in used
        limit += 1
    return limit - 1


def end_with_the_test():
    """End when the process that started this one is gone, and with it the other end of the standard input."""
    os.read(0, 1)
    os._exit(1)


def run_program(programs):
    """Run the one of these functions that the command line names."""
    # Some of them fork, and this thread holds no lock.
    warnings.simplefilter("ignore", ForkWithThreadsWarning)
    threading.Thread(target=end_with_the_test, daemon=True).start()
    programs[sys.argv[1]](**json.loads(sys.argv[2]))


if __name__ == "__main__":
    run_program(globals())
