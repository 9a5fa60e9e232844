"""Functions for `parapluie map`, as a user's module has them."""

from __future__ import annotations

import os
import time
from pathlib import Path

NUMBER = 3


def square(number):
    return number * number


def fail_if_odd(number):
    if number % 2:
        raise ValueError(f"item {number}")
    return number


def size_of(path):
    return Path(path).stat().st_size


def add(first, second=1):
    return first + second


def give(kind):
    return {"set": {1}, "nan": float("nan"), "surrogate": "\ud800", "text": "Grüße ☂", "key": {(1, 2): 3}}.get(kind)


def talk(number):
    print("talking", flush=True)  # noqa: T201 - that is what it is about
    os.write(1, b"writing\n")
    return number


def note(number):
    """Leave a line in a file, whose length says how often this has run."""
    with Path("notes").open("ab", buffering=0) as notes:
        notes.write(b"%d\n" % number)
    return number


def note_slowly(number):
    note(number)
    time.sleep(0.0005)
    return number


def succeed_the_second_time(number):
    path = Path(f"tried-{number}")
    if not path.exists():
        path.touch()
        raise OSError("the first time")
    return number


def die(number):
    os.abort()


def hang(number):
    note(number)
    if number == 3:
        time.sleep(600)
    return number
