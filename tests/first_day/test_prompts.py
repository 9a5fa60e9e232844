"""What is defined at a prompt, in a notebook or on standard input works in workers, or one sentence says why not."""

from __future__ import annotations

import pytest

# In pieces, as they are typed: an empty line ends each.
CELLS = [
    "from first_day_help import make, note_run",
    "note_run()",
    "import collections, dataclasses",
    "factor = 2\nstate = None",
    "def scale(n):\n    return factor * n",
    "def countdown(n):\n    return [n, *countdown(n - 1)] if n else []",
    "class Point:\n    def __init__(self, x): self.x = x\n    def moved(self, by): return Point(self.x + by)",
    "@dataclasses.dataclass\nclass Size:\n    width: int = 1",
    "Pair = collections.namedtuple('Pair', 'a b')",
    "class Refused(Exception):\n    pass",
    "def refuse(n):\n    raise Refused(n)",
    "def swap(pair):\n    return Pair(pair.b, pair.a)",
    "def prepare(value):\n    global state\n    state = value",
    "def read():\n    return state",
    "executor = make(initializer=prepare, initargs=('ready',))",
    "print(executor.submit(scale, 21).result())",
    "print(*executor.map(scale, range(3)), *executor.map(lambda n: n + factor, range(3)))",
    "print(executor.submit(countdown, 3).result())",
    "print(executor.submit(Point(1).moved, 4).result().x, type(executor.submit(Point, 1).result()) is Point)",
    "print(executor.submit(Size, 7).result() == Size(7), executor.submit(swap, Pair(1, 2)).result())",
    "print(type(executor.submit(refuse, 5).exception()) is Refused)",
    "factor = 10",
    "print(executor.submit(scale, 21).result(), executor.submit(read).result())",
    "executor.shutdown()",
]
EXPECTED = """\
42
0 2 4 2 3 4
[3, 2, 1]
5 True
True Pair(a=2, b=1)
True
210 ready
"""

STRICT = [
    "from first_day_help import make, square",
    "def scale(n):\n    return 2 * n",
    "class Point:\n    pass",
    "executor = make(serializer='pickle')",
    "print(executor.submit(square, 3).result())",
    "print(executor.submit(scale, 1).exception())",
    "print(executor.submit(len, [Point()]).exception())",
    "print(executor.submit(lambda: 1).exception())",
    "executor.shutdown()",
]

# As IPython's kernel does it: the main module is one without a file, and cells are run in it one by one.
NOTEBOOK = """\
import sys, types

main = types.ModuleType("__main__")
sys.modules["__main__"] = main
for number, cell in enumerate({cells!r}):
    exec(compile(cell, f"<ipython-input-{{number}}>", "exec"), vars(main))
"""


def run_cells(folder, how, cells):
    if how == "prompt":
        return folder.run("-i", "-q", "-c", "import sys; sys.ps1 = sys.ps2 = ''", text="\n\n".join(cells) + "\n")
    if how == "standard input":
        return folder.run("-", text="\n".join(cells))
    return folder.run(folder.write("notebook.py", NOTEBOOK.format(cells=cells)))


hows = pytest.mark.parametrize("how", ["prompt", "standard input", "notebook"])


@hows
def test_what_is_defined_there_works(row, folder, how):
    done = run_cells(folder, how, CELLS)
    assert done.stdout == EXPECTED, done.stderr
    assert done.stderr.strip() == ""
    assert [run.partition(":")[0] for run in done.runs] == ["__main__"]


@hows
def test_strict_pickle_says_in_one_sentence_why_it_does_not(row, folder, how):
    done = run_cells(folder, how, STRICT)
    assert done.stderr.strip() == ""
    works, function, thing, nameless = done.stdout.splitlines()
    why = (
        "is defined in a __main__ that workers do not import (such as a prompt, a notebook or standard input); "
        "move it to a module or use serializer='auto'; submitted at"
    )
    assert works == "9"
    assert f"cannot be sent to backend '{row.backend}': function ('scale') {why}" in function
    assert f"': args[0][0].__class__ ('Point') {why}" in thing
    assert "': function is a lambda, which cannot be pickled; define it at the top level of a module" in nameless
