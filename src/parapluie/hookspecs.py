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
