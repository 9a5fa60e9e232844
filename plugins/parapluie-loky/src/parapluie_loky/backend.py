"""The `loky` backend: a loky executor, and another one when that breaks.

It is a `loky.ProcessPoolExecutor` of its own unless `reuse` asks for that of `get_reusable_executor`, which belongs to
everybody in the program (or, from loky 3.7 on, in the thread): to resize it waits for everybody's calls, to ask for it
with other settings shuts it down, and to kill a call of ours ends those of others.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import attrs
from loky import (  # importing it registers its start methods with multiprocessing
    ProcessPoolExecutor,
    get_reusable_executor,
)
from loky.process_executor import BrokenProcessPool

from parapluie.backend import FutureBackend, Loss
from parapluie.worker import become_worker

if TYPE_CHECKING:
    from parapluie.backend import Host

CONTEXTS = ("loky", "loky_init_main", "spawn", "forkserver")


@attrs.frozen
class LokyOptions:
    """The options of `Executor("loky")`.

    Attributes:
        context: how workers start. "loky" does not import the program's main file, so that what that defines travels by
            value. "loky_init_main" does, and so needs a main guard, as do "spawn" and "forkserver" of multiprocessing.
        idle_timeout: seconds after which a worker without work ends; the next call starts another one. None: never.
        reuse: take loky's reusable executor, whose workers stay for the next one who asks for it, until they have been
            idle for `idle_timeout`. Whoever asks for it with another number of workers waits for all of its tasks.
    """

    context: str = attrs.field(default="loky", validator=attrs.validators.in_(CONTEXTS))
    idle_timeout: float | None = attrs.field(default=10.0)
    reuse: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))

    @idle_timeout.validator
    def _check_idle_timeout(self, _: object, value: float | None) -> None:
        if value is not None and not value > 0:
            raise ValueError(f"idle_timeout={value!r} is not a positive number of seconds")


class LokyBackend(FutureBackend):
    """Carries calls to a loky executor, which starts all its workers with the first one."""

    def start(self, host: Host) -> None:
        super().start(host)
        self._options: LokyOptions = self.options or LokyOptions()
        self._engine = self._new_engine()
        self._broken: ProcessPoolExecutor | None = None

    def _new_engine(self) -> ProcessPoolExecutor:
        make = get_reusable_executor if self._options.reuse else ProcessPoolExecutor
        engine: ProcessPoolExecutor = make(
            self.host.max_workers,
            context=multiprocessing.get_context(self._options.context),
            timeout=self._options.idle_timeout,
            initializer=become_worker,
        )
        return engine

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        try:
            return self._submit(function, *args)
        except BrokenProcessPool:
            if self._broken is not None:
                self._broken.shutdown()  # it has ended long ago, mostly
            self._broken, self._engine = self._engine, self._new_engine()
            return self._submit(function, *args)

    def _submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        future: Future[Any]
        try:
            future = self._engine.submit(function, *args)
        except OSError as error:  # a worker could not be started; those that there are may run the call all the same
            future = Future()
            future.set_exception(error)
        return future

    def loss(self, error: BaseException) -> Loss:
        exit_codes = re.search(r"The exit codes of the workers are (\{.*\})", str(error))
        if exit_codes is None:
            return super().loss(error)
        why = f"loky ends all its workers with the first that dies; exit codes that it saw: {exit_codes[1]}"
        return Loss(began=None, why=why)

    def shut_down(self, *, kill: bool) -> None:
        if self._broken is not None:
            self._broken.shutdown()
        if kill or not self._options.reuse:
            self._engine.shutdown(kill_workers=kill)
