"""Reads a configuration file: its tables, where in it each key stands, and all that is wrong with it, at once."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from parapluie.config import Setting
from parapluie.config_values import Problem, profile_settings
from parapluie.errors import ConfigError, ConfigFileError
from parapluie.words import did_you_mean

if TYPE_CHECKING:
    import os

_TABLE = ("tool", "parapluie")  # in a pyproject.toml
_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_KEY})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_KEY})\s*=")

Keys = tuple[str, ...]


class File(NamedTuple):
    """A configuration file that holds nothing wrong.

    Attributes: path, name (how errors call it), defaults (the settings outside of profiles), profiles.
    """

    path: Path
    name: str
    defaults: dict[str, Setting]
    profiles: dict[str, dict[str, Setting]]

    def levels(self, profile: str | None) -> list[dict[str, Setting]]:
        """Return what the file has to say with a profile, or without one.

        Raises:
            ConfigError: if there is no such profile; it names those that exist.
        """
        levels = [self.defaults] if self.defaults else []
        if profile is None:
            return levels
        if profile not in self.profiles:
            has = f"it has {', '.join(map(repr, self.profiles))}" if self.profiles else "it has none"
            raise ConfigError(
                f"there is no profile {profile!r} in {self.name}; {has}{did_you_mean(profile, self.profiles)}"
            )
        return [self.profiles[profile], *levels]


def read(path: str | os.PathLike[str]) -> File:
    """Read and check a file: all of it, also the profiles that nobody asks for.

    Raises:
        ConfigFileError: if it cannot be read, is not TOML, or has problems; all are listed.
    """
    path = Path(path)
    name = str(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")  # editors on Windows put a mark at the beginning
        data: Any = tomllib.loads(text)
    except OSError as error:
        raise ConfigFileError(name, [Problem("", f"it cannot be read: {error.strerror or error}")]) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigFileError(name, [Problem("", "it is not UTF-8", line)]) from error
    except tomllib.TOMLDecodeError as error:
        problem, _, place = str(error).partition(" (at ")
        number = re.match(r"line (\d+)", place)
        line = int(number[1]) if number else text.count("\n") + 1  # "at end of document"
        raise ConfigFileError(name, [Problem("", f"it is not TOML: {problem}", line)]) from error
    table = _TABLE if path.name == "pyproject.toml" else ()
    for key in table:
        data = data.get(key, {}) if isinstance(data, dict) else {}
    return _Reader(name, path, table, _lines(text)).file(data)


class _Reader:
    """Checks the tables of one file and gathers what is wrong."""

    def __init__(self, name: str, path: Path, table: Keys, lines: dict[Keys, int]) -> None:
        self._name, self._path, self._table, self._lines = name, path, table, lines
        self._problems: list[Problem] = []

    def file(self, data: object) -> File:
        if not isinstance(data, dict):
            raise ConfigFileError(self._name, [self._located(Problem("", f"found {data!r}; allowed: a table"))])
        profiles = data.pop("profiles", {})
        if not isinstance(profiles, dict):
            self._problems.append(
                self._located(Problem("profiles", f"found {profiles!r}; allowed: tables of settings"))
            )
            profiles = {}
        defaults = self._settings(data, ())
        chosen = {profile: self._settings(values, ("profiles", profile)) for profile, values in profiles.items()}
        if self._problems:
            self._problems.sort(key=lambda problem: problem.line or 0)
            raise ConfigFileError(self._name, self._problems)
        return File(self._path, self._name, defaults, chosen)

    def _settings(self, values: object, place: Keys) -> dict[str, Setting]:
        found, problems = profile_settings(values, also=("profiles",) if not place else ())
        self._problems += [self._located(problem, place) for problem in problems]
        return {name: Setting(value, self._origin((*place, name))) for name, value in found.items()}

    def _origin(self, key: Keys) -> str:
        line = self._line(key)
        where = f"{self._name}, line {line}" if line else self._name
        return f"profile {key[1]!r} in {where}" if len(key) > 2 else where  # noqa: PLR2004 - profiles, name, key

    def _located(self, problem: Problem, place: Keys = ()) -> Problem:
        keys = (*place, *problem.key.split(".")) if problem.key else place
        return Problem(".".join((*self._table, *keys)), problem.text, self._line(keys))

    def _line(self, keys: Keys) -> int | None:
        """Return the line of a key, or of the nearest one around it: inline tables are not looked into."""
        path = (*self._table, *keys)
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return None


def _lines(text: str) -> dict[Keys, int]:
    """Return the number of the line in which each table begins and each key stands; the parser does not tell."""
    lines: dict[Keys, int] = {}
    table: Keys = ()
    within = ""  # the quotes of a string of several lines
    for number, line in enumerate(text.splitlines(), 1):
        if not within:
            if header := _HEADER.match(line):
                table = _parts(header[1])
                lines.setdefault(table, number)
            elif assignment := _ASSIGNMENT.match(line):
                lines.setdefault((*table, *_parts(assignment[1])), number)
        for quotes in re.findall(r'"""|\'\'\'', line):
            within = "" if quotes == within else within or quotes
    return lines


def _parts(key: str) -> Keys:
    return tuple(_unquoted(part) for part in re.findall(_PART, key))


def _unquoted(part: str) -> str:
    return str(tomllib.loads(f"key = {part}")["key"]) if part[0] in "\"'" else part
