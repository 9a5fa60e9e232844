"""The `manager` backend: the process engine, with the server of shared state started beside its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

# The one import of another backend: this one is that engine, and adds a process to it.
from parapluie.backends.process import ProcessBackend
from parapluie.fork_threads import warn_of_threads
from parapluie.starting import threads_beside
from parapluie.state.server import StateServer

if TYPE_CHECKING:
    from parapluie.backend import Host, Stop


class ManagerBackend(ProcessBackend):
    """Carries calls as `process` does.

    Attributes:
        server: where `executor.shared` makes its objects; it lives as long as the workers.
    """

    server: StateServer

    def start(self, host: Host) -> None:
        if threads := threads_beside(host.context.get_start_method()):
            warn_of_threads(threads, host)
        self.server = StateServer(host.context)
        try:
            self.server.start()
            super().start(host)
        except BaseException:
            self.server.close()
            raise

    def stop(self, stop: Stop) -> None:
        try:
            super().stop(stop)
        finally:
            self.server.close()
