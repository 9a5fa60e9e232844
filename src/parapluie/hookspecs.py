"""The hooks of parapluie: what a plugin can implement.

A plugin is a distribution with an entry point in the group `parapluie`, which names a module (or another object)
that has hook implementations:

    # pyproject.toml
    [project.entry-points.parapluie]
    ray = "parapluie_ray.plugin"

    # parapluie_ray/plugin.py
    from parapluie.backend import BackendInfo, Capabilities
    from parapluie.hookspecs import hookimpl

    @hookimpl
    def parapluie_backends():
        return [BackendInfo("ray", "tasks on a Ray cluster", "parapluie_ray.backend:RayBackend", capabilities)]

Name the entry point after the backend: if the plugin cannot be imported, its name is all that is known of it.
An implementation may take fewer arguments than its specification has; hooks grow by adding arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parapluie.backend import BackendInfo
    from parapluie.observers import (
        TaskBegun,
        TaskDone,
        TaskRetried,
        TaskSubmitted,
        WorkerLost,
        WorkerStarted,
        WorkerStopped,
    )
    from parapluie.serializer import SerializerInfo

PROJECT = "parapluie"  # the name of the pluggy project, and of the group of entry points

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def parapluie_backends() -> Sequence[BackendInfo]:
    """Describe the backends that this plugin offers.

    Fires once in a process for each plugin: when, for the first time, an executor asks for a backend or a serialiser
    that is not built in, or somebody asks for the list of them. In the process that makes executors, never in a
    worker; in the thread that asked, while others that ask wait.

    Returns:
        `BackendInfo` objects, never backends; an empty sequence where the platform has nothing to offer. Heavy
        imports belong in the module that `BackendInfo.path` names. A name that another plugin offers, too, is
        refused when it is asked for; the other names keep working.

    An exception from it, or anything else among what it returns, refuses the plugin as a whole: it is shown with its
    distribution and its error by `parapluie.registry.explain`, and other plugins are not disturbed.
    """
    raise NotImplementedError


@hookspec
def parapluie_serializers() -> Sequence[SerializerInfo]:
    """Describe the serialisers that this plugin offers.

    Fires as `parapluie_backends` does, right after it, and what is said there of exceptions holds here.

    Returns:
        `SerializerInfo` objects. The names "auto", "pickle" and "cloudpickle" are taken.
    """
    raise NotImplementedError


# ---- observers --------------------------------------------------------------------------------------------------
#
# These seven fire for executors that were made while the plugin was loaded: after `parapluie.registry.register`, after
# its entry point was loaded (see `parapluie_backends`), or because `Executor(observers=...)` names it. They fire in the
# process that made the executor, never in a worker. An item of a `map` is a task of its own.
#
# Who is told does the work of the thread that tells: be short, and wait for no task. What an implementation returns is
# of no interest; an exception from it is logged, by the logger "parapluie", and disturbs nothing and nobody else. It
# has to be a plain function or method, and no wrapper.


@hookspec
def parapluie_task_submitted(event: TaskSubmitted) -> None:
    """Hear of a task that was taken on, before anything else of it.

    Fires once for each task, in the thread that calls `submit`; for items of a `map`, in the one that reads its input.
    A task that cannot be pickled fires it, too, unless `submit` raises.
    """
    raise NotImplementedError


@hookspec
def parapluie_task_begun(event: TaskBegun) -> None:
    """Hear that a worker began an attempt.

    Fires once for each attempt that is known to have begun. On `serial` and `thread` when it begins, in the thread that
    runs it. Elsewhere workers make a mark, and send nothing: it fires when the attempt ends, right before that is told,
    in the same thread; `event.at` says when it began. Items of a chunk that a worker ran in one go share out its time.
    """
    raise NotImplementedError


@hookspec
def parapluie_task_retried(event: TaskRetried) -> None:
    """Hear that an attempt failed, or was lost with its worker, and that the task will have another one.

    Fires before that attempt is dispatched, in the thread that brought the answer, which is the engine's.
    """
    raise NotImplementedError


@hookspec
def parapluie_task_done(event: TaskDone) -> None:
    """Hear that a task has ended: with a value, with an error, or cancelled.

    Fires once for each task, the last that is heard of it: right before its future, or the iterator of the `map`, has
    the answer, or right after it was cancelled. In the thread that brought the answer, or that cancelled.
    """
    raise NotImplementedError


@hookspec
def parapluie_worker_started(event: WorkerStarted) -> None:
    """Hear that a worker is ready, its initializer included.

    Fires once for each worker, in a thread of the engine's, or in that which is the worker; on `pool` and `futures`
    perhaps behind its first answer. Not for the worker of `serial`, which is the caller, nor where an engine of others
    does not tell of its workers.
    """
    raise NotImplementedError


@hookspec
def parapluie_worker_lost(event: WorkerLost) -> None:
    """Hear that a worker has died, or was killed for a task: it was not told to end, or left a task unfinished.

    Fires at most once for each worker, before what becomes of its tasks is told, in a thread of the engine's; also for
    a worker that died before it was ready.
    """
    raise NotImplementedError


@hookspec
def parapluie_worker_stopped(event: WorkerStopped) -> None:
    """Hear that a worker has ended as it was told to: it was idle at the end, or had run its `max_tasks_per_child`.

    Fires at most once for each worker, and not for one that was lost, in a thread of the engine's.
    """
    raise NotImplementedError
