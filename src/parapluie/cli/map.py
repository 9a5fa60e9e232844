"""`parapluie map`: one function for many items, from lines of JSON to lines of JSON."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from parapluie.cli import status
from parapluie.cli.map_bar import Bar, Nothing, PlainLines
from parapluie.cli.map_call import JSONCall, worth_another_attempt
from parapluie.cli.map_input import Lines, Stream, paths_of
from parapluie.cli.map_output import PipeClosedError, WholeFile, error_of, file_output, standard_output
from parapluie.cli.program import Failure
from parapluie.cli.target import import_target
from parapluie.errors import TooManyFailuresError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from parapluie import Executor, Progress
    from parapluie.cli.map_output import Output
    from parapluie.journal import Journal
    from parapluie.mapping import Outcome

_AGAIN = "the same command goes on from there"
_RETRY = "--retry-failed goes on from there"
_RETRY_MORE = "a higher limit, or --retry-failed, goes on from there"
_GRACE = 2.0  # seconds that running items have when the command ends before they do


class Options(NamedTuple):
    """What the command was given."""

    target: str
    source: str | None
    patterns: tuple[str, ...]
    star: bool
    backend: str | None
    profile: str | None
    max_workers: int | None
    chunksize: int | None
    retry: int | None
    task_timeout: float | None
    on_error: str
    max_failures: str | None
    unordered: bool
    output: str | None
    journal: str | None
    retry_failed: bool
    accept_changed: bool
    progress: bool | None


@click.command(name="map")
@click.argument("target", metavar="MODULE:FUNCTION")
@click.argument("source", metavar="[INPUT]", required=False)
@click.option(
    "--glob",
    "patterns",
    metavar="PATTERN",
    multiple=True,
    help="Take the paths that match as items, sorted, instead of INPUT; ** goes into folders. "
    "Can be given several times.",
)
@click.option(
    "--star",
    is_flag=True,
    help="Call FUNCTION(*array) and FUNCTION(**object), instead of with the array or object whole.",
)
@click.option("--backend", metavar="NAME", help="Where it runs; see `parapluie backends`.")
@click.option("--profile", metavar="NAME", help="The profile of the configuration whose settings hold.")
@click.option("--max-workers", type=click.IntRange(1), help="Workers at most.")
@click.option("--chunksize", type=click.IntRange(1), help="Items that travel together; measured and chosen otherwise.")
@click.option(
    "--retry",
    metavar="ATTEMPTS",
    type=click.IntRange(1),
    help="How often an item may run, the first time included, if it fails or its worker dies.",
)
@click.option(
    "--task-timeout", metavar="SECONDS", type=click.FloatRange(0, min_open=True), help="How long one attempt may run."
)
@click.option(
    "--on-error",
    type=click.Choice(["collect", "skip", "stop"]),
    default="collect",
    show_default=True,
    help="What becomes of items that fail: a line that says so, no line, or the end of it all.",
)
@click.option("--max-failures", metavar="N|N%", help="Stop when more items than that, or than that share, have failed.")
@click.option("--unordered", is_flag=True, help="Print results as they come, not in the order of the input.")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE instead of standard output.")
@click.option(
    "-j",
    "--journal",
    metavar="FILE",
    help="Record in FILE what is done; the same command then goes on where it was. FILE is SQLite.",
)
@click.option("--retry-failed", is_flag=True, help="Run items again whose failure is in the journal.")
@click.option(
    "--accept-changed",
    is_flag=True,
    help="Use a journal of another function or other input: items that are the same keep their results.",
)
@click.option(
    "--progress/--no-progress",
    default=None,
    help="Show progress on standard error. By default if that is a terminal, and results go elsewhere.",
)
def command(**given: Any) -> None:
    """Call a Python function for every line of INPUT, in parallel.

    INPUT is a file of JSON lines, or - for standard input, which is also the default. FUNCTION gets each line's value
    as its one argument. MODULE is imported as by `python -m`, with the current directory on the path.

    The output has a line of JSON for each item: its index, its value or its error (type and message), how many
    attempts it took, and the seconds of the last one. What FUNCTION prints goes to standard error.

    With --journal, what is recorded never runs again: after a crash or a power cut, start the same command again. What
    was running then does run again. FILE of --output is then written in one go when all is done, each line exactly
    once; standard output has all lines again each time.

    \b
    Exit status:
      0    all items went well, or there were none
      1    some failed
      2    an argument, a line of the input, or a file cannot be used; it stopped there
      3    all failed
      130  interrupted

    \b
    Examples:
      parapluie map math:sqrt numbers.jsonl
      parapluie map jobs:fetch urls.jsonl -o pages.jsonl --journal pages.journal --retry 3
      parapluie map jobs:word_count --glob 'texts/**/*.txt' --max-failures 5%
      producer | parapluie map jobs:score - | consumer
    """  # noqa: D301 - \b is click's: what follows keeps its lines
    options = Options(**given)
    _check(options)
    sys.exit(_Map(options).run())


def _check(options: Options) -> None:
    if options.patterns and options.source is not None:
        raise Failure(f"both {options.source!r} and --glob are given: name the one that is the input")
    if options.on_error == "stop" and options.max_failures is not None:
        raise Failure("--on-error stop stops at the first failure: --max-failures goes with collect or skip")
    for name in ("retry_failed", "accept_changed"):
        if getattr(options, name) and options.journal is None:
            raise Failure(f"--{name.replace('_', '-')} is about a journal: name it with --journal FILE")
    for other, what in ((options.source, "input"), (options.journal, "journal")):
        if options.output is not None and other is not None and _are_same(options.output, other):
            raise Failure(f"{options.output!r} is the {what}, too: name another --output")


def _are_same(one: str, other: str) -> bool:
    return Path(one).is_file() and Path(other).is_file() and Path(one).samefile(other)


class _StoppedError(Exception):
    """An item has failed, and that is to be the end. Its only argument is that item's outcome."""


class _Map:
    """One run of the command."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._done = self._failed = 0

    def run(self) -> int:
        """Do it all, and return the exit status."""
        options = self._options
        try:
            with ExitStack() as stack:
                output = stack.enter_context(standard_output())  # first: what an import prints is no result
                function = import_target(options.target)
                whole = WholeFile(options.output) if options.output and options.journal else None
                if whole is not None:
                    self._consume(function, _to_nowhere, stack)
                    whole.write(self._recorded())
                elif options.output:
                    self._write(function, stack.enter_context(file_output(options.output)), stack)
                else:
                    self._write(function, output, stack)
        except PipeClosedError:  # whoever read it has what they wanted
            return self._status()
        except KeyboardInterrupt:
            self._say("interrupted", _AGAIN)
            return status.INTERRUPTED
        except _StoppedError as stopped:
            outcome: Outcome[Any] = stopped.args[0]
            assert outcome.error is not None
            told = error_of(outcome.error)
            self._say(f"stopped: item {outcome.index} failed with {told['type']}: {told['message']}", _RETRY)
            return self._status()
        except TooManyFailuresError as error:
            many = f"{error.failed} of {error.answered} items failed, and --max-failures is {error.limit}"
            self._say(f"stopped: {many}", _RETRY_MORE)
            return self._status()
        except Failure as failure:
            raise Failure(failure.message + self._what_remains(_AGAIN), failure.exit_code) from failure
        if self._failed:
            click.echo(f"parapluie: {self._failed} of {self._done} items failed", err=True)
        return self._status()

    def _write(self, function: Callable[..., Any], output: Output, stack: ExitStack) -> None:
        def write(outcome: Outcome[Any]) -> None:
            if outcome.error is None or self._options.on_error != "skip":
                output.write(outcome)

        self._consume(function, write, stack, output)
        output.flush()

    def _consume(
        self,
        function: Callable[..., Any],
        write: Callable[[Outcome[Any]], None],
        stack: ExitStack,
        output: Output | None = None,
    ) -> None:
        options = self._options
        items = _items(options, stack)
        shown = _display(options, items, to_terminal=output is not None and output.is_terminal())
        stack.callback(shown.close)

        def progress(state: Progress) -> None:
            if output is not None:
                output.flush()
            shown(state)

        with _make_executor(options) as executor:
            call: Callable[..., Any] = JSONCall(function, star=options.star)
            outcomes: Iterator[Outcome[Any]] = executor.map(
                call,
                items,
                chunksize=options.chunksize,
                ordered=not options.unordered,
                on_error="collect",
                max_failures=_limit(options),
                progress=progress,
                journal=_journal(options),
            )
            for outcome in outcomes:
                self._done += 1
                self._failed += outcome.error is not None
                write(outcome)
                if outcome.error is not None and options.on_error == "stop":
                    raise _StoppedError(outcome)

    def _recorded(self) -> Iterator[Outcome[Any]]:
        journal = _journal(self._options)
        assert journal is not None
        skip = self._options.on_error == "skip"
        return (outcome for outcome in journal.outcomes() if outcome.error is None or not skip)

    # ---- how it ended -----------------------------------------------------------------------------------------------

    def _status(self) -> int:
        if not self._failed:
            return status.OK
        return status.NONE_WENT_WELL if self._failed == self._done else status.SOME_FAILED

    def _say(self, what: str, how: str) -> None:
        click.echo(f"parapluie: {what}{self._what_remains(how)}", err=True)

    def _what_remains(self, how: str) -> str:
        """Say what is done, and how to go on."""
        options = self._options
        if options.journal is None or not self._done:
            return ""
        unwritten = f", and {options.output!r} is not written" if options.output else ""
        return f"; what is done is in {options.journal!r}{unwritten}: {how}"


def _to_nowhere(outcome: Outcome[Any]) -> None:
    """Leave an outcome to the journal."""


def _items(options: Options, stack: ExitStack) -> Any:
    if options.patterns:
        return paths_of(options.patterns)
    lines = Lines(options.source or "-")
    stack.callback(lines.close)
    return lines if lines.is_file() else Stream(lines)


def _limit(options: Options) -> int | str | None:
    given = options.max_failures
    return int(given) if given is not None and given.isdecimal() else given


def _journal(options: Options) -> Journal | None:
    if options.journal is None:
        return None
    from parapluie.journal import Journal

    return Journal(options.journal, retry_failed=options.retry_failed, accept_changed=options.accept_changed)


def _display(options: Options, items: Any, *, to_terminal: bool) -> Bar | PlainLines | Nothing:
    if options.progress is False:
        return Nothing()
    if sys.stderr.isatty() and not to_terminal:
        return Bar(items.about if isinstance(items, Lines) else lambda: None)
    return PlainLines() if options.progress else Nothing()


def _make_executor(options: Options) -> Executor:
    """Make the executor that the options, and the profile, ask for."""
    from parapluie import Executor, Retry, Shutdown

    given: dict[str, Any] = {
        "backend": options.backend,
        "max_workers": options.max_workers,
        "task_timeout": options.task_timeout,
        "retry": None if options.retry is None else Retry(options.retry, on=worth_another_attempt),
    }
    given = {name: value for name, value in given.items() if value is not None}
    # Only a run that is cut short ends with items running.
    given["shutdown"] = Shutdown(drain=False, grace=_GRACE)
    return Executor.from_config(options.profile, **given)
