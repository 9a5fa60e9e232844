"""Where plugins come from, and whether what they describe can be used."""

from __future__ import annotations

import re
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from parapluie.builtin import SERIALIZERS
from parapluie.errors import PluginError
from parapluie.words import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from importlib.metadata import Distribution

    from parapluie.backend import BackendInfo
    from parapluie.serializer import SerializerInfo

GROUP = "parapluie"  # of entry points


class Source(NamedTuple):
    """A plugin, and the distribution that it came with, if any."""

    plugin: str
    distribution: str | None = None
    version: str | None = None

    @property
    def label(self) -> str:
        """How errors call it."""
        if self.distribution is None:
            return f"plugin {self.plugin!r}"
        return f"{self.distribution} {self.version}" if self.version else self.distribution

    @property
    def key(self) -> str:
        """Its name within the PluginManager: entry points of two distributions may share theirs."""
        return f"{self.distribution}: {self.plugin}"

    def error(self, problem: BaseException, hook: str | None = None) -> PluginError:
        """Make the error that says why it cannot be used."""
        where = f" of {self.label}" if self.distribution else ""
        what = f"hook {hook}: " if hook else ""
        text = " ".join(describe(problem).split())  # pluggy writes several lines
        return PluginError(
            f"plugin {self.plugin!r}{where} cannot be used: {what}{text}",
            plugin=self.plugin,
            distribution=self.label if self.distribution else None,
            hook=hook,
        )


def entry_points() -> Iterator[tuple[Source, Callable[[], object]]]:
    """Yield the plugins of all distributions, each with a function that imports it.

    Of distributions that share a name the first one on the path counts. importlib.metadata.entry_points() would do,
    were it not that it raises for all if one file is malformed.
    """
    from importlib.metadata import distributions

    seen = set()
    for distribution in distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
        except (OSError, ValueError):  # not UTF-8; nothing says that it is a plugin of ours
            continue
        if f"[{GROUP}]" not in text:
            continue
        name, version = _identity(distribution)
        normalized = re.sub(r"[-_.]+", "-", name).lower()
        if normalized in seen:
            continue
        seen.add(normalized)
        try:
            points = distribution.entry_points.select(group=GROUP)
        except Exception as error:  # noqa: BLE001 - the parser raises what it happens to stumble over
            yield Source("entry_points.txt", name, version), partial(_fail, error)
            continue
        for point in points:
            yield Source(point.name, name, version), point.load


def _fail(error: Exception) -> None:
    raise error


def _identity(distribution: Distribution) -> tuple[str, str | None]:
    try:
        return str(distribution.metadata["Name"]), distribution.version
    except Exception:  # noqa: BLE001 - without readable metadata it can still work
        return "a distribution without a name", None


def check_backend(info: BackendInfo) -> None:
    """Raise TypeError or ValueError if a field is not what it has to be."""
    _check_fields(info.name, info.summary, info.path)
    if not callable(info.capabilities):
        raise TypeError(f"capabilities={info.capabilities!r} of backend {info.name!r} is not callable")
    if info.options is not None:
        _check_path("options", info.options)
    extra: object = info.extra
    if extra is not None and not isinstance(extra, str):
        raise TypeError(f"extra={extra!r} of backend {info.name!r} is not a string")


def check_serializer(info: SerializerInfo) -> None:
    """Raise TypeError or ValueError if a field is not what it has to be, or the name is a built-in one's."""
    _check_fields(info.name, info.summary, info.path)
    if info.name in SERIALIZERS:
        raise ValueError(f"serializer {info.name!r} is built in and cannot be offered")


def _check_fields(name: object, summary: object, path: object) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][\w.-]*", name):
        raise ValueError(f"name={name!r} is not a name: a letter, then letters, digits and any of '_.-'")
    if not isinstance(summary, str) or not summary or "\n" in summary:
        raise ValueError(f"summary={summary!r} of {name!r} is not one line of text")
    _check_path("path", path)


def _check_path(field: str, path: object) -> None:
    if not isinstance(path, str) or not re.fullmatch(r"[\w.]+:[\w.]+", path):
        raise ValueError(f"{field}={path!r} is not a path like 'package.module:Name'")


def own_version() -> str | None:
    """Return the version of parapluie itself, or None if it is run from its sources."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("parapluie")
    except PackageNotFoundError:
        return None


def missing(info: BackendInfo) -> str:
    """Say what is not installed of what a backend needs, as far as that can be seen without importing it."""
    from importlib.metadata import PackageNotFoundError, distribution

    needed = re.match(r"[A-Za-z0-9][\w.-]*", info.extra or "")
    if needed is None:
        return ""
    try:
        distribution(needed[0])
    except PackageNotFoundError:
        return f"{needed[0]} is not installed; install {info.extra}"
    return ""


def import_path(path: str) -> Any:
    """Return what `"package.module:Name"` leads to; raise what the import raises."""
    module, _, attribute = path.partition(":")
    value = import_module(module)
    for name in attribute.split("."):
        value = getattr(value, name)
    return value
