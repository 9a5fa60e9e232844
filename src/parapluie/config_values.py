"""What may be written in a file or a variable: each setting's form, and what is said of one that has another.

Values are checked with the same functions as arguments of `Executor`, but for what only the chosen profile needs: that
its backend is installed, and that the exceptions it names can be imported.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import cattrs
from attrs import asdict, field, fields, frozen
from cattrs.errors import AttributeValidationNote, ClassValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, override

from parapluie.builtin import BACKENDS
from parapluie.config import PREFIX, Setting
from parapluie.errors import ConfigError
from parapluie.policies.retry import Retry
from parapluie.policies.shutdown import Shutdown
from parapluie.settings import MOST_WORKERS, PARAMETERS, PICKLE_CHECKS, check_choice, check_count, check_seconds
from parapluie.words import did_you_mean, nearest

_OTHER_WORDS = ("CONFIG", "PROFILE", "TESTING_SECONDS")
_BACKENDS = tuple(info.name for info in BACKENDS)
_START_METHODS = ("fork", "forkserver", "spawn")
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?")


class Problem(NamedTuple):
    """Something wrong: the key (dotted), what was found and is allowed, and the line where it can be had."""

    key: str
    text: str
    line: int | None = None

    def __str__(self) -> str:
        return ": ".join(filter(None, (f"line {self.line}" if self.line else "", self.key, self.text)))


class _FormError(ValueError):
    """A value has not the form that it has to have."""


def _form(
    allowed: str | tuple[str, ...], check: Callable[[Any], Any], *, off: bool = False, names: tuple[str, ...] = ()
) -> Any:
    """Make an attribute whose value passes a check.

    Args:
        allowed: what errors say of it, or the words that are allowed.
        off: `false` stands for None, which TOML has not.
        names: what a word that is not allowed may have been meant to be.
    """
    if isinstance(allowed, tuple):
        names = allowed
        allowed = ", ".join(map(repr, allowed))
    if off:
        allowed += ", or false for none"

    def structure(value: Any, _type: object = None) -> Any:
        if off and value is False:
            return None
        try:
            return check(value)
        except (ConfigError, ValueError, TypeError) as error:
            hint = did_you_mean(value, names) if isinstance(value, str) else ""
            raise _FormError(f"found {value!r}; allowed: {allowed}{hint}") from error

    return field(default=None, metadata={"structure": structure})


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(value)
    return value


def _backend(value: object) -> str:
    """Take any name, since a profile may be for a machine with more plugins, but not a built-in one misspelt."""
    name = _text(value)
    if name not in _BACKENDS and nearest(name, _BACKENDS):
        from parapluie import registry

        registry.find(name)
    return name


def _whole(value: object, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise TypeError(value)
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise TypeError(value)
    return float(value)


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(value)
    return value


def _names(value: object) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names:
        raise TypeError(value)
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise ValueError(value)
    return tuple(names)


def _list_of_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise TypeError(value)
    return tuple(value)


def _wait(value: object) -> float | str:
    return value if value == "exponential" and isinstance(value, str) else _seconds(value)


@frozen
class RetryForm:
    """A `Retry` as it is written; the exceptions that it names are imported when it is made."""

    attempts: int | None = _form("a whole number from 1", partial(_whole, least=1))
    on: tuple[str, ...] | None = _form(
        "import paths of exceptions, such as ['OSError', 'package.module.Error']", _names
    )
    wait: float | str | None = _form("seconds from 0, or 'exponential'", _wait)
    stop: float | None = _form("a positive number of seconds", partial(check_seconds, "stop"))
    lost: int | None = _form("a whole number from 0", partial(_whole, least=0))

    def make(self) -> Retry:
        """Raise ConfigError if an exception cannot be imported, or is none that a task may be repeated for."""
        given: dict[str, Any] = {name: value for name, value in asdict(self).items() if value is not None}
        if self.on is not None:
            given["on"] = tuple(_exception(path) for path in self.on)
        return Retry(**given)


@frozen
class ShutdownForm:
    """A `Shutdown` as it is written."""

    drain: bool | None = _form("true or false", _truth)
    grace: float | None = _form("seconds from 0", _seconds)

    def make(self) -> Shutdown:
        return Shutdown(**{name: value for name, value in asdict(self).items() if value is not None})


@frozen
class _ProfileForm:
    """The settings of a profile, or of a file outside of profiles; None where nothing is said."""

    backend: str | None = _form("the name of a backend", _backend, names=_BACKENDS)
    max_workers: int | None = _form(
        f"a whole number from 1 to {MOST_WORKERS}", partial(check_count, "max_workers", most=MOST_WORKERS), off=True
    )
    start_method: str | None = _form(
        _START_METHODS, partial(check_choice, "start_method", allowed=_START_METHODS), off=True
    )
    max_tasks_per_child: int | None = _form(
        "a whole number from 1", partial(check_count, "max_tasks_per_child"), off=True
    )
    retry: int | RetryForm | None = _form(
        "a number of attempts from 1, or a table", lambda value: _structured(value, RetryForm, least=1), off=True
    )
    task_timeout: float | None = _form("a positive number of seconds", partial(check_seconds, "task_timeout"), off=True)
    start_timeout: float | None = _form("a positive number of seconds", partial(check_seconds, "start_timeout"))
    shutdown: ShutdownForm | None = _form("a table", lambda value: _structured(value, ShutdownForm))
    capture_output: bool | None = _form("true or false", _truth)
    observers: tuple[str, ...] | None = _form("names of entry points, such as ['metrics']", _list_of_names)
    pickle_check: str | None = _form(PICKLE_CHECKS, partial(check_choice, "pickle_check", allowed=PICKLE_CHECKS))
    serializer: str | None = _form("the name of a serializer", _text)
    options: dict[str, Any] | None = _form("a table of the backend's own options", _table)


# What only code can give.
_OF_CODE = sorted({*PARAMETERS} - {attribute.name for attribute in fields(_ProfileForm)})


def _structured(value: object, form: type, *, least: int | None = None) -> Any:
    """Take a table for a form, or a whole number where that is short for one."""
    if isinstance(value, dict):
        return _converter().structure(value, form)
    if least is None:
        raise TypeError(value)
    return _whole(value, least=least)


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True, forbid_extra_keys=True)
    for form in (RetryForm, ShutdownForm, _ProfileForm):
        hooks = {one.name: override(struct_hook=one.metadata["structure"]) for one in fields(form)}
        converter.register_structure_hook(form, make_dict_structure_fn(form, converter, **hooks))  # type: ignore[arg-type]
    return converter


def profile_settings(values: object, *, also: tuple[str, ...] = ()) -> tuple[dict[str, Any], list[Problem]]:
    """Take a table of settings apart: what is right in it, by name, and what is wrong.

    Args: also: further keys that the table may have, to suggest them.
    """
    if not isinstance(values, dict):
        return {}, [Problem("", f"found {values!r}; allowed: a table of settings")]
    try:
        form = _converter().structure(values, _ProfileForm)
    except ClassValidationError as error:
        return {}, list(_problems(error, (), also))
    return {name: getattr(form, name) for name in values}, []


def _problems(error: BaseException, place: tuple[str, ...], also: tuple[str, ...]) -> Iterable[Problem]:
    """Yield what is wrong, from the groups of exceptions that cattrs raises."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            place = (*place, note.name)
    if isinstance(error, ClassValidationError):
        for one in error.exceptions:
            yield from _problems(one, place, also)
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [*(attribute.name for attribute in fields(error.cl)), *(also if error.cl is _ProfileForm else ())]
        for key in sorted(error.extra_fields):
            yield Problem(".".join((*place, key)), _unknown(key, known, whole=error.cl is _ProfileForm))
    else:
        yield Problem(".".join(place), str(error))


def _unknown(key: str, known: list[str], *, whole: bool) -> str:
    if whole and key in _OF_CODE:
        return f"can be given in code only; allowed: {', '.join(known)}"
    return f"is not a setting; allowed: {', '.join(known)}{did_you_mean(key, known)}"


# ---- the environment --------------------------------------------------------------------------------------------


def from_environment(variables: Mapping[str, str]) -> list[dict[str, Setting]]:
    """Take the settings out of variables, as one level; none if there are no settings.

    A number, a truth value or a table is written as in TOML: `PARAPLUIE_RETRY='{attempts = 3, on = ["OSError"]}'`.

    Raises:
        ConfigError: if a value is wrong, or a name like one of ours is none of them; it lists all.
    """
    ours = {attribute.name.upper(): attribute.name for attribute in fields(_ProfileForm)}
    problems: list[str] = []
    found: dict[str, Setting] = {}
    for variable, text in sorted(variables.items()):
        word = variable.removeprefix(PREFIX)
        name = ours.get(word)
        if name is None:
            meant = None if word in _OTHER_WORDS else nearest(word, [*ours, *_OTHER_WORDS])
            if meant is not None:  # else it is some plugin's
                problems.append(f"{variable}: is not a variable of ours. Did you mean '{PREFIX}{meant}'?")
            continue
        values, wrong = profile_settings({name: _read(text)})
        for problem in wrong:
            inner = problem.key.removeprefix(name).removeprefix(".")
            problems.append(": ".join(filter(None, (variable, inner, problem.text))))
        found |= {name: Setting(value, variable) for name, value in values.items()}
    if problems:
        raise ConfigError("the environment has wrong settings: " + "; ".join(problems))
    return [found] if found else []


def _read(text: str) -> Any:
    """Read a value of TOML; what is none is taken for a word, and so need not be quoted."""
    try:
        return tomllib.loads(f"value = {text}\n")["value"] if "\n" not in text else text
    except tomllib.TOMLDecodeError:
        return text


def _exception(path: str) -> type[BaseException]:
    """Import an exception by a path such as "OSError", "package.module.Error" or "package.module:Class.Error"."""
    import builtins
    from importlib import import_module

    module, _, name = path.rpartition(":") if ":" in path else path.rpartition(".")
    try:
        found: Any = import_module(module) if module else builtins
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"retry.on: {path!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise ConfigError(f"retry.on: {path!r} is {found!r}, which is not an exception type")
    return found
