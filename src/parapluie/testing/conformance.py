"""The conformance kit: what every backend has to do, as a class of tests to be inherited."""

from __future__ import annotations

from parapluie.testing.fixtures import OnBackend
from parapluie.testing.suites.buffers import BufferTests
from parapluie.testing.suites.cancel import CancelTests
from parapluie.testing.suites.channel_faults import ChannelFaultTests
from parapluie.testing.suites.channels import ChannelTests
from parapluie.testing.suites.chunks import ChunkTests
from parapluie.testing.suites.errors import ErrorTests
from parapluie.testing.suites.faults import FaultTests
from parapluie.testing.suites.hostility import HostilityTests
from parapluie.testing.suites.logs import LogTests
from parapluie.testing.suites.losses import LossTests
from parapluie.testing.suites.maps import MapTests
from parapluie.testing.suites.observers import ObserverTests
from parapluie.testing.suites.output import OutputTests
from parapluie.testing.suites.programs import ProgramTests
from parapluie.testing.suites.promises import PromiseTests
from parapluie.testing.suites.retry import RetryTests
from parapluie.testing.suites.sessions import SessionTests
from parapluie.testing.suites.settings import SettingTests
from parapluie.testing.suites.shutdown import ShutdownTests
from parapluie.testing.suites.state import SharedStateTests
from parapluie.testing.suites.submit import SubmitTests
from parapluie.testing.suites.watched import WatchedMapTests
from parapluie.testing.suites.workers import WorkerTests


class BackendConformance(
    PromiseTests,
    SubmitTests,
    MapTests,
    ChunkTests,
    WatchedMapTests,
    BufferTests,
    ErrorTests,
    HostilityTests,
    FaultTests,
    CancelTests,
    LossTests,
    RetryTests,
    LogTests,
    OutputTests,
    ObserverTests,
    WorkerTests,
    SharedStateTests,
    SessionTests,
    ChannelTests,
    ChannelFaultTests,
    ShutdownTests,
    ProgramTests,
    SettingTests,
    OnBackend,
):
    """Proves the promises for one backend, through `parapluie.Executor`.

        class TestRay(BackendConformance):
            backend = "ray"
            options = {"address": "local"}

    Each test runs on every start method that the backend claims; what it does not claim is not tested.
    """
