"""Where settings come from: what the code gives, else the environment, the profile, the file, and at last the library.

    arguments ─▶ PARAPLUIE_* ─▶ the chosen profile ─▶ the file's own values ─▶ the library's defaults
                └──────────────────── a Config ──────────────────────────┘

The first of them that has a setting decides it. Every value keeps its origin, so that an error, the log and
`parapluie config show` can tell who asked for it. What a file may hold is in config_values.py, how one is read in
config_file.py; a program without one imports neither.
"""

from __future__ import annotations

import logging
import os
import re

from parapluie import settings
from parapluie.errors import ConfigError
from parapluie.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Any, Self

    from parapluie.backend import Capabilities

    Level = dict[str, "Setting"]  # the settings of one source

PREFIX = "PARAPLUIE_"
# What a setting asks of a backend. Where the backend was chosen by who has more to say, it need not have it.
_NEEDS = {
    "start_method": "start_methods",
    "max_tasks_per_child": "max_tasks_per_child",
    "task_timeout": "kills_running_task",
}
_DEFAULTS = {"backend": "process", "start_timeout": 60.0, "pickle_check": "auto", "serializer": "auto"}

_PERHAPS_OURS = re.compile(r"""^\s*\[?\s*(['"]?tool['"]?\s*\.\s*)?['"]?parapluie['"]?\s*[].=]""", re.MULTILINE)

_logger = logging.getLogger("parapluie")
_told: set[str] = set()


class Setting(NamedTuple):
    """A value and where it comes from: "argument", the name of a variable, a file and line, or "default"."""

    value: Any
    origin: str


class Settled(NamedTuple):
    """What holds for one executor.

    Attributes:
        settings: by name; what is not there has no value from anybody.
        left_out: what weaker sources wanted and the backend, which a stronger one chose, cannot honour.
    """

    settings: dict[str, Setting]
    left_out: dict[str, Setting]

    def value(self, name: str) -> Any:
        """Return the value of a setting, or None."""
        setting = self.settings.get(name)
        return None if setting is None else setting.value

    def __str__(self) -> str:
        """Say which backend it is and who asked for it, and the same of all that the code does not say itself."""
        told = [
            f"{name}={setting.value!r} ({setting.origin})"
            for name, setting in self.settings.items()
            if name == "backend" or setting.origin not in {"argument", "default"}
        ]
        left = [f"{name}={setting.value!r} ({setting.origin})" for name, setting in self.left_out.items()]
        text = ", ".join(told)
        return f"{text}; left out, since this backend cannot: {', '.join(left)}" if left else text


class Config:
    """The settings that the environment and a file have for executors; `Config()` has none.

    `Executor()` finds its own; give it `config=Config()` to have nobody else decide. Immutable; for any thread.

    Attributes:
        levels: the settings of each source that has some, the strongest first. None is a value: it says that nothing
            holds, whatever weaker sources want.
        path: the file, if there is one. profile: the name of the chosen one, if one was.
    """

    def __init__(self, levels: tuple[Level, ...] = (), *, path: Path | None = None, profile: str | None = None) -> None:
        self.levels, self.path, self.profile = levels, path, profile

    @classmethod
    def find(cls, profile: str | None = None, *, path: str | os.PathLike[str] | None = None) -> Self:
        """Read the environment, and the file that it names or that is found from the working directory upward.

        Args:
            profile: the name of a profile in the file; None: what PARAPLUIE_PROFILE says, if anything.
            path: the file; None: what PARAPLUIE_CONFIG says, else the nearest `parapluie.toml`, or `pyproject.toml`
                with a table `[tool.parapluie]`.

        Raises:
            ConfigFileError: if the file cannot be read or is wrong; it lists every problem.
            ConfigError: if a variable is wrong, or there is no such profile.
        """
        variables = {name: text for name, text in os.environ.items() if name.startswith(PREFIX) and text}
        levels: list[Level] = []
        if variables:
            from parapluie.config_values import from_environment

            levels += from_environment(variables)
        profile = profile or variables.get("PARAPLUIE_PROFILE")
        path = path or variables.get("PARAPLUIE_CONFIG")
        found = _search() if path is None else path
        if found is None:
            if profile is not None:
                raise ConfigError(
                    f"there is no profile {profile!r}: no parapluie.toml, nor a pyproject.toml with [tool.parapluie], "
                    f"is in {_working_directory()!r} or above it"
                )
            return cls(tuple(levels))
        from parapluie.config_file import read

        file = read(found)
        levels += file.levels(profile)
        return cls(tuple(levels), path=file.path, profile=profile)

    def settle(self, arguments: Mapping[str, Any]) -> Settled:
        """Decide about every setting.

        Args:
            arguments: what the code gives: names and values as the parameters of `Executor`, without those that it
                leaves to others; "options" holds the backend's own ones.

        The options of a backend are taken from the levels that want them for the very backend that was chosen. What
        that backend cannot honour is left out where a source wants it that had less to say than the one which chose
        the backend.
        """
        given = {name: Setting(value, "argument") for name, value in arguments.items()}
        library = {name: Setting(value, "default") for name, value in _DEFAULTS.items()}
        levels = (given, *self.levels, library)
        found: dict[str, Setting] = {}
        for level in reversed(levels):
            found |= level
        if self.levels:
            chosen = next(place for place, level in enumerate(levels) if "backend" in level)
            options = _options(levels, chosen)
            found.pop("options", None)
            if options is not None:
                found["options"] = options
            left_out = _left_out(found, levels[: chosen + 1])
            for name in left_out:
                del found[name]
        else:
            left_out = {}
        held = {name: _made(setting) for name, setting in found.items() if setting.value is not None}
        return Settled(held, left_out)


def settle(arguments: Mapping[str, Any], config: Config | None, *, decided: Iterable[str] = ()) -> Settled:
    """Decide about every setting of an executor that is being made.

    Args:
        arguments: the parameters of `Executor`; None leaves a setting to others, unless it is among those decided.
        config: what the code wants to be asked; None finds it.
    """
    if config is None:
        config = Config.find()
    elif not isinstance(config, Config):
        raise ConfigError(
            f"config={config!r} is not a parapluie.Config; Executor.from_config takes a profile or a path"
        )
    decided = set(decided)
    return config.settle({name: value for name, value in arguments.items() if value is not None or name in decided})


def _made(setting: Setting) -> Setting:
    """Make what was written the object that it stands for: a `Retry`, a `Shutdown`."""
    make = getattr(setting.value, "make", None) if setting.origin not in {"argument", "default"} else None
    if make is None:
        return setting
    try:
        return setting._replace(value=make())
    except ConfigError as error:
        raise ConfigError(f"{error} ({setting.origin})") from error


def _options(levels: tuple[Level, ...], chosen: int) -> Setting | None:
    """Return the options of the strongest level that has some for the backend that was chosen."""
    backend = levels[chosen]["backend"].value
    for place, level in enumerate(levels):
        # The backend that a level's options are for: its own, or the one of the next weaker level that names one.
        meant = next((below["backend"].value for below in levels[place:] if "backend" in below), None)
        if "options" in level and (place <= chosen or meant == backend):
            return level["options"]
    return None


def _left_out(found: Mapping[str, Setting], stronger: tuple[Level, ...]) -> dict[str, Setting]:
    weaker = [
        name
        for name in _NEEDS
        if name in found and found[name].value is not None and not any(name in level for level in stronger)
    ]
    if not weaker:
        return {}
    options = found.get("options")
    capabilities = settings.capabilities_with(found["backend"].value, {} if options is None else options.value)
    return {name: found[name] for name in weaker if not _honours(capabilities, name, found[name].value)}


def _honours(capabilities: Capabilities, name: str, value: object) -> bool:
    claimed = getattr(capabilities, _NEEDS[name])
    return value in claimed if name == "start_method" else bool(claimed)


def tell(settled: Settled) -> None:
    """Log which backend an executor gets and who asked for it; the same is not said twice in a process."""
    if _logger.isEnabledFor(logging.INFO):
        text = str(settled)
        if text not in _told:
            _told.add(text)
            _logger.info("executor: %s", text)


def explain(error: ConfigError, settled: Settled) -> None:
    """Note at an error where the settings that it speaks of came from, if the code did not give them."""
    text = str(error)
    origins = [
        f"{name}={setting.value!r} comes from {setting.origin}"
        for name, setting in settled.settings.items()
        if setting.origin not in {"argument", "default"} and _is_spoken_of(name, setting.value, text)
    ]
    if origins:
        error.add_note("parapluie: " + "; ".join(origins))


def _is_spoken_of(name: str, value: Any, text: str) -> bool:
    return any(option in text for option in value) if name == "options" else name in text


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _search() -> str | None:
    """Return the nearest configuration file from the working directory upward."""
    folder = _working_directory()
    while folder is not None:
        own, project = os.path.join(folder, "parapluie.toml"), os.path.join(folder, "pyproject.toml")
        if os.path.isfile(own):
            return own
        if os.path.isfile(project) and _speaks_of_us(project):
            return project
        above = os.path.dirname(folder)
        folder = None if above == folder else above
    return None


def _speaks_of_us(project: str) -> bool:
    """Say whether a pyproject.toml has our table. One that cannot be read is not ours to complain of."""
    try:
        with open(project, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError):
        return False
    if not _PERHAPS_OURS.search(text):  # most are not even parsed
        return False
    import tomllib

    try:
        tool = tomllib.loads(text).get("tool")
    except tomllib.TOMLDecodeError:
        return False
    return isinstance(tool, dict) and "parapluie" in tool
