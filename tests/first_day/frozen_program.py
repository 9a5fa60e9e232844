"""A frozen program, simulated: one executable that runs a script, and starts itself again for each worker.

`LOADER` stands for what PyInstaller and others put in front of a script: it sets `sys.frozen`, and is itself what
`sys.executable` names. Where nothing but a real executable can be started (Windows), Python is that executable, and the
loader is put between it and its arguments, as the script sees them. On POSIX, where the standard library has no
`freeze_support`, it brings one, as those do.
"""

from __future__ import annotations

import os
import sys

LOADER = r"""#!{python}
import os, sys

sys.frozen = True
__name__ = "loader"  # a real one is not written in Python
if os.name == "nt":
    from multiprocessing import spawn

    plain = spawn.get_command_line
    spawn.get_command_line = lambda **keywords: [sys.executable, __file__, *plain(**keywords)[1:]]
else:
    sys.executable = os.path.abspath(__file__)
    import multiprocessing
    from multiprocessing import spawn

    HELPERS = ("from multiprocessing.resource_tracker import main", "from multiprocessing.forkserver import main")

    def freeze_support():
        if sys.argv[-2:-1] == ["-c"] and sys.argv[-1].startswith(HELPERS):
            exec(sys.argv[-1])
            sys.exit()
        spawn.freeze_support()

    multiprocessing.freeze_support = freeze_support

if {windowed}:
    sys.stdin = sys.stdout = sys.stderr = sys.__stdin__ = sys.__stdout__ = sys.__stderr__ = None

main = type(sys)("__main__")
sys.modules["__main__"] = main
if {has_file}:
    main.__file__ = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program.py")  # there is no such file
exec(compile({source!r}, "program.py", "exec"), vars(main))
"""


def freeze(folder, source, *, windowed=False, has_file=True):
    """Freeze a script; return the arguments that run it. No source of it is to be found anywhere.

    Args:
        windowed: there is no console, and so none of the standard streams.
        has_file: its main module says what file it was made of, as most tools have it.
    """
    text = LOADER.format(python=sys.executable, source=source, windowed=windowed, has_file=has_file)
    loader = folder.write("frozen program", "")
    loader.write_text(text, encoding="utf-8")
    loader.chmod(0o755)
    return [loader] if os.name == "nt" else ["-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])", loader]
