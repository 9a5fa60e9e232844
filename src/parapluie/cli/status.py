"""What the command's exit status says."""

from __future__ import annotations

OK = 0
SOME_FAILED = 1  # of the items; or what was looked for was found: a mistake, something that does not travel
WRONG_INPUT = 2  # an argument, a setting or a file that cannot be used; nothing was run, or it was stopped there
NONE_WENT_WELL = 3
INTERRUPTED = 130  # as a shell says it
