"""Which tests a class of the kit has: those that are about what its backend claims."""

from __future__ import annotations

from parapluie.testing import OnBackend
from parapluie.testing.claims import facts_proven, lacks, proves, requires


class Subjects(OnBackend):
    @requires("survives_dead_worker")
    def test_of_processes(self): ...

    @lacks("isolated_memory")
    def test_of_shared_memory(self): ...

    @requires("initializer")
    @lacks("runs_in_caller")
    def test_of_both(self): ...

    @proves("runs_in_caller")
    def test_of_a_claim(self): ...

    def test_of_all(self): ...


class OnSerial(Subjects):
    backend = "serial"


class OnProcess(OnSerial):  # from another backend's class, which has left out other tests
    backend = "process"

    test_of_all = None  # as pytest has it


def collected(cls):
    return {name for name in dir(cls) if name.startswith("test_") and callable(getattr(cls, name))}


def test_class_has_the_tests_that_concern_its_backend():
    assert collected(OnSerial) == {"test_of_shared_memory", "test_of_a_claim", "test_of_all"}


def test_class_that_inherits_from_another_backends_has_its_own():
    assert collected(OnProcess) == {"test_of_processes", "test_of_both"}


def test_class_says_what_it_proves():
    assert facts_proven(OnSerial) == {"runs_in_caller"} and facts_proven(OnProcess) == set()


def test_rows_are_the_start_methods_that_are_claimed():
    assert [row.id for row in OnSerial.rows()] == ["serial"]
    assert {row.id for row in OnProcess.rows()} >= {"process-spawn"}
