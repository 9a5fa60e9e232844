"""Validates the options that a backend has of its own, against its options class."""

from __future__ import annotations

import re
from types import UnionType
from typing import TYPE_CHECKING, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from parapluie import registry
from parapluie.backend import NoOptions
from parapluie.errors import ConfigError, PluginError
from parapluie.words import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attrs import Attribute

    from parapluie.backend import BackendInfo


class Option(NamedTuple):
    """An option of a backend: its name, its type and its default as they are written in Python, and what it is."""

    name: str
    type: str
    required: bool
    default: str | None
    about: str


def describe_options(info: BackendInfo) -> list[Option]:
    """Return the options that a backend has of its own.

    Raises:
        PluginError: if the backend has no proper options class.
        BackendError: if that class cannot be imported.
    """
    import attrs

    fields = _fields(info)
    if not fields:
        return []
    cls = registry.options_class(info)
    types = _types(cls)
    options = []
    for name, field in fields.items():
        default: Any = field.default
        made = isinstance(default, attrs.Factory) and not default.takes_self  # type: ignore[arg-type]
        shown = None if default is attrs.NOTHING else repr(default.factory() if made else default)
        kind = _type_name(types.get(field.name, field.type))
        options.append(Option(name, kind, shown is None, shown, _about(name, cls)))
    return options


def _about(name: str, cls: type) -> str:
    """Return what the docstring of an options class says of an option, as `name: text` with all lines of the text."""
    found = re.search(rf"^( *){name}: (.*(?:\n\1 +\S.*)*)", cls.__doc__ or "", re.MULTILINE)
    return " ".join(found[2].split()) if found else ""


def _fields(info: BackendInfo) -> dict[str, Attribute[Any]]:
    """Return what the options class of a backend takes, by the names of its parameters."""
    if info.options is None:
        return {}
    import attrs

    cls = registry.options_class(info)
    if not attrs.has(cls):
        raise PluginError(f"the options class {info.options} of backend {info.name!r} is not an attrs class")
    return {field.alias: field for field in attrs.fields(cls) if field.init}


def make_options(info: BackendInfo, given: Mapping[str, Any], parameters: Sequence[str]) -> object:
    """Make the options of a backend, an instance of its options class, from what an executor was given.

    Args:
        parameters: of the executor itself: what a misspelt option may have been meant to be.

    Raises:
        ConfigError: if an option is unknown, lacking, of the wrong type or refused.
        PluginError: if the backend has no proper options class.
        BackendError: if that class cannot be imported.
    """
    if info.options is None:
        _check_names(info, given, (), parameters)
        return NoOptions()
    import attrs

    fields = _fields(info)
    cls = registry.options_class(info)
    _check_names(info, given, tuple(fields), parameters)
    lacking = [name for name, field in fields.items() if field.default is attrs.NOTHING and name not in given]
    if lacking:
        raise ConfigError(f"backend {info.name!r} needs the option {', '.join(map(repr, lacking))}")
    types = _types(cls)
    for name, value in given.items():
        hint = types.get(fields[name].name, Any)
        if not fields[name].converter and not _fits(value, hint):
            raise ConfigError(f"{name}={value!r} (option of backend {info.name!r}) is not {_type_name(hint)}")
    try:
        return cls(**given)
    except (TypeError, ValueError) as error:
        # The validators of attrs put the attribute and its type into args, behind their sentence.
        problem = error.args[0] if error.args else error
        raise ConfigError(f"options {dict(given)!r} of backend {info.name!r} are refused: {problem}") from error


def _check_names(
    info: BackendInfo, given: Mapping[str, Any], known: tuple[str, ...], parameters: Sequence[str]
) -> None:
    for name in given:
        if name not in known:
            has = f"; its options: {', '.join(sorted(known))}" if known else "; it has no options"
            raise ConfigError(
                f"unknown option {name}={given[name]!r} for backend {info.name!r}{has}"
                f"{did_you_mean(name, (*known, *parameters))}"
            )


def _types(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls)
    except Exception:  # noqa: BLE001 - names that only a type checker imports: its validators have to do
        return {}


def _fits(value: object, hint: Any) -> bool:
    """Tell whether a value is of an annotated type; of one that is not as simple as an int or a str, say yes."""
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint not in (bool, str, type(None)) or isinstance(value, hint)


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
