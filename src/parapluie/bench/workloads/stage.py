"""What a workload is given: a contender that is open and warm, the sizes, and a place for files and remarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from parapluie.bench import adapters
from parapluie.bench.sizes import FULL, QUICK, Sizes

if TYPE_CHECKING:
    from collections.abc import Sequence


class Request(NamedTuple):
    """What is to be measured; it travels as JSON.

    Attributes:
        function: of the workload, as "package.module:name".
        contender: its name. abilities: see contenders.py; needs_chunks, parallel: as well.
        workers: how many.
        start_method: of the workers; None where the contender has no choice.
        quick: take the small sizes.
        address_space: bytes that no process may exceed.
    """

    function: str
    contender: str
    abilities: Sequence[str]
    needs_chunks: bool
    parallel: bool
    workers: int
    start_method: str | None
    quick: bool
    address_space: int


class Stage:
    """A contender that is being measured.

    Attributes:
        request: what was asked for.
        sizes: how much to do.
        folder: for files of the measurement.
        notes: what a reader of the figures has to know, in sentences.
    """

    def __init__(self, request: Request, folder: str) -> None:
        self.request = request
        self.sizes: Sizes = QUICK if request.quick else FULL
        self.folder = folder
        self.notes: list[str] = []
        self._adapter: adapters.Adapter | None = None

    @property
    def adapter(self) -> adapters.Adapter:
        """The contender; opened, with all its workers up, when it is first asked for."""
        if self._adapter is None:
            request = self.request
            self._adapter = adapters.make(request.contender, request.workers, request.start_method)
            if request.parallel:
                adapters.wait_for_workers(self._adapter, request.workers)
        return self._adapter

    @property
    def workers(self) -> int:
        """How many there are."""
        return self.request.workers

    def can(self, ability: str) -> bool:
        """Whether the contender has an ability."""
        return ability in self.request.abilities

    def close(self) -> None:
        """End the contender in good order; when it is asked for again, it is a new one.

        What a pool has seen can decide about what it does next: mpire, for one, gives the tasks of a map to the workers
        that answered those of an earlier submit.
        """
        if self._adapter is not None:
            self._adapter.close()
            self._adapter = None

    def abandon(self) -> None:
        """Leave a contender that failed to those who end this process: to end in good order might hang."""
        self._adapter = None
