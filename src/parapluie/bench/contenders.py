"""Who is measured: every backend of parapluie, and the peers that a user would pick instead. None is imported here."""

from __future__ import annotations

import platform
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from parapluie import registry
from parapluie.bench.adapters import OURS
from parapluie.plugins import own_version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from parapluie.backend import BackendInfo

CALL, SUBMIT, MAP, STREAM = "call", "submit", "map", "stream"
STATE = "state"  # objects that all tasks change
FLOW = "flow"  # items go from one task to another
ISOLATED = "isolated"  # its workers are processes, with a GIL of their own
_ALL = frozenset({CALL, SUBMIT, MAP, STREAM, ISOLATED})
_LACKS = {
    CALL: "has no way to run one task",
    SUBMIT: "has no submit",
    MAP: "has no map",
    STREAM: "has no lazy map",
    STATE: "has no shared state",
    FLOW: "has no channels, or no two tasks at a time",
    ISOLATED: "its workers are not processes",
}


class Contender(NamedTuple):
    """What can be measured.

    Attributes:
        name: what users write as `--contender` and read in the table.
        summary: one line.
        distribution: that it comes with; empty for the standard library.
        version: of that; empty where it is not installed.
        why_not: why it cannot be measured here; empty if it can.
        abilities: of CALL, SUBMIT, MAP, STREAM, STATE, FLOW, ISOLATED.
        start_methods: those that its workers can be started with; empty where there is no such choice.
        own_start: it starts new interpreters in a way of its own, which is most like "spawn".
        parallel: False where the caller runs the tasks itself.
        needs_chunks: the default of its map is a message for each item.
        remarks: what a reader of its figures has to know, each with the beginning of the workloads' names.
    """

    name: str
    summary: str
    distribution: str = ""
    version: str = ""
    why_not: str = ""
    abilities: frozenset[str] = _ALL
    start_methods: tuple[str, ...] = ()
    own_start: bool = False
    parallel: bool = True
    needs_chunks: bool = False
    remarks: tuple[tuple[str, str], ...] = ()

    @property
    def ours(self) -> bool:
        """Whether it is a backend of parapluie."""
        return self.name.startswith(OURS)

    def lacks(self, ability: str) -> str:
        """Say what is in the way of a measurement that needs an ability; empty if nothing is."""
        return "" if ability in self.abilities else _LACKS[ability]

    def cannot_start_by(self, method: str) -> str:
        """Say why it cannot be measured with a start method; empty if it can."""
        if method in self.start_methods or (self.own_start and method == "spawn"):
            return ""
        if self.own_start:
            return "starts its workers in a way of its own"
        return "starts no processes" if ISOLATED not in self.abilities else f"has no start method {method!r}"


class _Peer(NamedTuple):
    contender: Contender
    module: str
    distribution: str | None  # None: part of CPython


def contenders() -> list[Contender]:
    """Return everybody, those that are not installed included: our own backends first."""
    return [*_backends(), *(_complete(peer) for peer in _PEERS)]


def find(name: str, known: Iterable[Contender]) -> Contender | None:
    """Return the contender of that name; a backend is found by its bare name, too, unless a peer is called so."""
    by_name = {contender.name: contender for contender in known}
    return by_name.get(name) or by_name.get(OURS + name)


def start_methods() -> tuple[str, ...]:
    """Return the start methods of the platform."""
    from multiprocessing import get_all_start_methods

    return tuple(get_all_start_methods())


def default_start_method() -> str:
    """Return the one that parapluie takes, which is safe beside threads; all are measured with the same."""
    return "forkserver" if sys.platform == "linux" else "spawn"


def _backends() -> list[Contender]:
    infos = {info.name: info for info in registry.infos()}
    found = []
    for line in registry.explain():
        distribution, version = line.distribution or "parapluie", line.version or own_version() or "from its sources"
        contender = Contender(OURS + line.name, line.summary, distribution, version, line.why_not)
        info = infos.get(line.name)
        found.append(_able(contender, info) if line.available and info is not None else contender)
    return found


def _able(contender: Contender, info: BackendInfo) -> Contender:
    """Fill in what a backend says that it can do with its default options."""
    try:
        can = info.capabilities(None)
    except Exception as error:  # noqa: BLE001 - a plugin's code may raise anything, and costs its own row only
        return contender._replace(why_not=f"its capabilities raised {error!r}")
    abilities = _ALL if can.isolated_memory else _ALL - {ISOLATED}
    if can.shared_state:
        abilities |= {STATE}
    if can.channels and not can.runs_in_caller:
        abilities |= {FLOW}
    return contender._replace(
        abilities=abilities, start_methods=tuple(can.start_methods), parallel=not can.runs_in_caller
    )


def _complete(peer: _Peer) -> Contender:
    contender, module, distribution = peer
    if contender.start_methods:
        # Of what a library can take, what the platform has.
        contender = contender._replace(start_methods=start_methods())
    if distribution is None:
        return contender._replace(version=f"Python {platform.python_version()}")
    if find_spec(module) is None:
        return contender._replace(why_not=f"not installed; install {distribution}, or parapluie's extra 'bench'")
    return contender._replace(distribution=distribution, version=_version(distribution))


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "of unknown version"


_ANY = ("any",)  # replaced by the platform's
_PEERS = (
    _Peer(
        Contender(
            "ProcessPoolExecutor",
            "concurrent.futures.ProcessPoolExecutor",
            start_methods=_ANY,
            needs_chunks=True,
        ),
        "concurrent.futures",
        None,
    ),
    _Peer(
        Contender(
            "Pool",
            "multiprocessing.Pool: apply_async, map and, where it has to be lazy, imap",
            start_methods=_ANY,
            remarks=(("map", "pickles its whole input before it begins"),),
        ),
        "multiprocessing",
        None,
    ),
    _Peer(
        Contender("loky", "loky.ProcessPoolExecutor", own_start=True, needs_chunks=True),
        "loky",
        "loky",
    ),
    _Peer(
        Contender(
            "joblib",
            "joblib.Parallel with its backend loky",
            abilities=_ALL - {SUBMIT},
            own_start=True,
            remarks=(("latency", "each one a call of Parallel"), ("startup", "each one a call of Parallel")),
        ),
        "joblib",
        "joblib",
    ),
    _Peer(
        Contender(
            "mpire",
            "mpire.WorkerPool: apply_async, map and, where it has to be lazy, imap",
            start_methods=_ANY,
        ),
        "mpire",
        "mpire",
    ),
    _Peer(
        Contender("pebble", "pebble.ProcessPool", start_methods=_ANY, needs_chunks=True),
        "pebble",
        "Pebble",
    ),
    _Peer(
        Contender(
            "Manager",
            "multiprocessing.Manager, and a Pool whose tasks use its objects",
            abilities=frozenset({STATE, ISOLATED}),
            start_methods=_ANY,
        ),
        "multiprocessing",
        None,
    ),
    _Peer(
        Contender(
            "Queue",
            "multiprocessing.Queue, between two processes",
            abilities=frozenset({FLOW, ISOLATED}),
            start_methods=_ANY,
            remarks=(("channel", "has no batches"),),
        ),
        "multiprocessing",
        None,
    ),
    _Peer(
        Contender(
            "pipe-echo",
            "a process that sends back what comes through a pipe: what a pool costs beyond two wake-ups",
            abilities=frozenset({CALL, ISOLATED}),
            start_methods=_ANY,
            remarks=(("", "no pool"),),
        ),
        "multiprocessing",
        None,
    ),
)
