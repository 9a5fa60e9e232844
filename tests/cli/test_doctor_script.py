"""What the doctor finds in a script, and what it leaves alone, which matters as much."""

from __future__ import annotations

import textwrap

import pytest

from parapluie.cli.doctor import rules


@pytest.fixture
def look(write, monkeypatch):
    """Look at a script, with modules beside it, as where pools fork unless told otherwise; return (rule, line)s."""
    monkeypatch.setattr(rules.multiprocessing, "get_all_start_methods", lambda: ["fork", "spawn"])

    def look(source, **modules):
        for name, text in modules.items():
            write(f"{name}.py", textwrap.dedent(text))
        found = rules.findings_of(write("script.py", textwrap.dedent(source)))
        look.findings = found
        return [(one.rule, one.line) for one in found]

    return look


GUARD = "missing-main-guard"
IMPORTS = """\
import concurrent.futures, multiprocessing, multiprocessing as mp, sys
from concurrent import futures as cf
from concurrent.futures import ProcessPoolExecutor as P, ThreadPoolExecutor
from multiprocessing.pool import Pool as PoolClass, ThreadPool
import parapluie
from parapluie import Executor
work = print
"""
HEAD = IMPORTS.count("\n")


@pytest.mark.parametrize(
    "maker",
    [
        "P()",
        "cf.ProcessPoolExecutor(max_workers=2)",
        "concurrent.futures.ProcessPoolExecutor()",
        "mp.Pool(2)",
        "multiprocessing.Pool()",
        "PoolClass(2)",
        "mp.get_context('spawn').Pool()",
        "mp.Manager()",
        "Executor()",
        "Executor('process')",
        "parapluie.Executor(backend='pool')",
        "Executor(sys.argv[1])",
        "Executor.from_config('big')",
    ],
)
def test_what_starts_processes_needs_the_guard(look, maker):
    assert look(f"{IMPORTS}with {maker} as pool:\n    pool.map(work, [1])") == [(GUARD, HEAD + 1)]
    (one,) = look.findings
    assert one.remedy == f'move line {HEAD + 1}, `with {maker} as pool: ...`, under `if __name__ == "__main__":`'
    assert look(f"{IMPORTS}if __name__ == '__main__':\n  with {maker} as pool:\n    pool.map(work, [1])") == []


@pytest.mark.parametrize(
    "maker",
    [
        "ThreadPoolExecutor()",
        "ThreadPool()",
        "Executor('serial')",
        "Executor(backend='thread')",
        "Executor('backend of a plugin that is not installed here')",
        "mp.get_context('fork').Pool()",
        "P(mp_context=mp.get_context('fork'))",
        "Executor(start_method='fork')",
        "open('file')",
        "P.from_somewhere()",
    ],
)
def test_what_starts_none_or_forks_them_needs_no_guard(look, maker):
    assert look(f"{IMPORTS}with {maker} as pool:\n    pool.map(work, [1])") == []


@pytest.mark.parametrize(
    "guard",
    [
        'if __name__ == "__main__":',
        "if '__main__' == __name__:",
        "if __name__ == '__main__' and len(sys.argv) > 1:",
        "if (__name__ == '__main__'):",
        "if not __name__ != '__main__':",
        "if __name__ != '__main__':\n    pass\nelse:",
        "if __name__ != '__main__':\n    sys.exit()\nif True:",
        "if __name__ != '__main__':\n    raise SystemExit\nif True:",
        "is_main = __name__ == '__main__'\nif is_main:",
        "if __name__ in {'__main__'}:",
        "if multiprocessing.parent_process() is None:",
        "if mp.current_process().name == 'MainProcess':",
    ],
)
def test_guard_is_known_in_all_its_variants(look, guard):
    program = f"{IMPORTS}def main():\n  with P() as pool: pool.submit(work)\n{guard}\n    main()"
    assert look(program) == []


@pytest.mark.parametrize(
    "guard",
    [
        "if len(sys.argv) > 1:",
        "if __name__ != '__main__':",
        "if __name__ == '__main__' or len(sys.argv) > 1:",
        "if __name__ == '__main__':\n    pass\nelse:",
        "if __name__ == '__main__':\n    sys.exit()\nif True:",
        "try:",
        "for _ in range(1):",
        "class Holder:",
    ],
)
def test_what_is_no_guard_is_none(look, guard):
    end = "\nfinally: pass" if guard == "try:" else ""
    assert [rule for rule, _ in look(f"{IMPORTS}{guard}\n    pool = mp.Manager(){end}")] == [GUARD]


def test_function_that_is_called_without_the_guard_is_followed(look):
    program = f"""{IMPORTS}
def start():
    with P() as pool:
        pool.submit(work)

async def main():
    start()

import asyncio
asyncio.run(main())
"""
    assert look(program) == [(GUARD, HEAD + 10)]
    assert look.findings[0].what == (
        f"main() is called and makes a ProcessPoolExecutor (line {HEAD + 3}) whenever this file is imported"
    )


def test_method_and_function_of_another_module_are_followed(look):
    helpers = "from concurrent.futures import ProcessPoolExecutor\ndef run():\n    with ProcessPoolExecutor(): ...\n"
    program = """
    import helpers
    from multiprocessing import Process

    class App:
        def __init__(self):
            self.start()

        def start(self):
            Process(target=print).start()

    class Worker(Process): ...

    def never_called():
        helpers.run()

    App()
    helpers.run()
    Worker()
    if __name__ == "__main__":
        never_called()
    """
    assert look(program, helpers=helpers) == [(GUARD, 17), (GUARD, 18), (GUARD, 19)]


def test_main_of_a_package_is_never_imported_again(write):
    path = write("package/__main__.py", "import multiprocessing\nmultiprocessing.Manager()\n")
    assert rules.findings_of(path) == []


def test_recursion_and_circles_of_names_end(look):
    program = f"""{IMPORTS}
a = b
b = a
c = c.d
e = e or e
if e: pass
def f(): g()
def g():
    f()
    f()
f()
for x in x: x()
"""
    assert look(program) == []


def test_pool_of_an_imported_module(look, tmp_path):
    program = "import helpers\nfrom package import part\nprint(helpers, part)"
    modules = {
        "helpers": "import multiprocessing\npool = multiprocessing.Pool()",
        "package/__init__": "",
        "package/part": """\
            from multiprocessing import Pool
            from . import deep
            if __name__ == "__main__":
                with Pool(): ...
            """,
        "package/deep": "from concurrent.futures import ProcessPoolExecutor as P\nMINE = P()\n",
    }
    assert look(program, **modules) == [("pool-at-import", 2), ("pool-at-import", 2)]
    assert [one.file for one in look.findings] == [str(tmp_path / "helpers.py"), str(tmp_path / "package/deep.py")]


def test_module_of_the_script_that_cannot_be_parsed_is_found(look):
    assert look("import helpers", helpers="def (") == [("cannot-be-parsed", 1)]


PICKLE = "cannot-be-pickled"


@pytest.mark.parametrize(
    "use",
    [
        "with P() as pool: pool.submit(lambda: 1)",
        "with P() as pool: pool.map(local, [1])",
        "with mp.Pool() as pool: pool.apply_async(local)",
        "with mp.Pool() as pool: pool.starmap(named, [1])",
        "with P() as pool: pool.submit(functools.partial(local, 1))",
        "with mp.get_context('spawn').Pool(initializer=lambda: 1) as pool: pool.map(work, [1])",
        "mp.get_context('spawn').Process(target=local).start()",
        "with Executor(serializer='pickle') as pool: pool.submit(lambda: 1)",
    ],
)
def test_lambda_and_local_function_that_have_to_be_found_by_name(look, use):
    program = f"{IMPORTS}import functools\nnamed = lambda x: x\ndef main():\n    def local(x): ...\n    {use}\n"
    assert look(program) == [(PICKLE, HEAD + 5)]


@pytest.mark.parametrize(
    "use",
    [
        "with P() as pool: pool.submit(work)",
        "with P() as pool: pool.submit(main)",
        "with P() as pool: pool.submit(work, key=sorted([1], key=lambda n: n))",
        "with ThreadPoolExecutor() as pool: pool.submit(lambda: 1)",
        "with Executor() as pool: pool.submit(lambda: 1)",
        "with Executor('pool') as pool: pool.map(local, [1])",
        "mp.Process(target=local).start()",  # it is forked
        "with unknown() as pool: pool.submit(lambda: 1)",
    ],
)
def test_what_is_found_by_name_or_sent_by_value_is_left_alone(look, use):
    assert look(f"{IMPORTS}def main():\n    def local(x): ...\n    {use}\n") == []


FORK = "fork-beside-threads"
THREAD = "import threading, os\nt = threading.Thread(target=work)\n"


@pytest.mark.parametrize(
    "fork",
    [
        "os.fork()",
        "mp.Manager()",
        "mp.Process(target=work).start()",
        "mp.get_context('fork').Process(target=work).start()",
        "with Executor(start_method='fork') as e: e.submit(work)",
        "with P() as e: e.submit(work)",
    ],
)
def test_fork_beside_a_thread_that_was_started_before(look, fork):
    program = f"{IMPORTS}{THREAD}if __name__ == '__main__':\n  t.start()\n  {fork}\n"
    assert look(program) == [(FORK, HEAD + 5)]
    assert f"Thread that was started at line {HEAD + 4} may run" in look.findings[0].what


@pytest.mark.parametrize(
    "body",
    [
        "os.fork(); t.start()",
        "t.start(); t.join(); os.fork()",
        "t.start(); mp.get_context('spawn').Manager()",
        "t.start()\n  with Executor() as e: e.submit(work)",
        "with ThreadPoolExecutor() as e: e.submit(work)\n  os.fork()",
        "many = [threading.Thread() for _ in '12']\n  for m in many: m.start()\n  for m in many: m.join()\n  os.fork()",
        "t.start()\n  for each in everything(): each.join()\n  os.fork()",
        "if sys.argv: t.start()\n  else: os.fork()",
        "match sys.argv:\n    case []: t.start()\n    case _: os.fork()",
        "if sys.argv:\n    t.start()\n    sys.exit()\n  os.fork()",
    ],
)
def test_fork_without_a_thread_is_left_alone(look, body):
    assert look(f"{IMPORTS}{THREAD}if __name__ == '__main__':\n  {body}\n") == []


@pytest.mark.parametrize(
    "body",
    [
        "with ThreadPoolExecutor() as e: e.submit(work); os.fork()",
        "for m in [threading.Thread() for _ in '12']: m.start()\n  os.fork()",
        "if sys.argv: t.start()\n  os.fork()",
        "start()\n  os.fork()",
        "match sys.argv:\n    case []: t.start()\n  os.fork()",
        "try: t.start()\n  except OSError: sys.exit()\n  os.fork()",
        "while sys.argv:\n    t.start()\n    break\n  os.fork()",
        "t.start()\n  separator().join('ab')\n  os.fork()",
    ],
)
def test_thread_that_may_run_is_found(look, body):
    program = f"{IMPORTS}{THREAD}def start(): t.start()\nif __name__ == '__main__':\n  {body}\n"
    assert [rule for rule, _ in look(program)] == [FORK]


def test_start_method_of_the_program_decides_whether_pools_fork(look, monkeypatch):
    body = f"{THREAD}if __name__ == '__main__':\n  t.start()\n  mp.Manager()\n"
    assert [rule for rule, _ in look(IMPORTS + body)] == [FORK]
    assert look(f"{IMPORTS}mp.set_start_method('spawn')\n{body}") == []
    monkeypatch.setattr(rules.multiprocessing, "get_all_start_methods", lambda: ["spawn", "fork"])
    assert look(IMPORTS + body) == []
    assert [rule for rule, _ in look(f"{IMPORTS}mp.set_start_method('fork')\n{body}")] == [FORK]


SHUT = "never-shut-down"


@pytest.mark.parametrize(
    "use",
    [
        "pool = P(); pool.submit(work)",
        "pool = ThreadPoolExecutor(); pool.submit(work)",
        "pool: Executor = Executor('process'); pool.map(work, [1])",
        "mp.Pool(2).map(work, [1])",
    ],
)
def test_executor_that_nobody_shuts_down(look, use):
    assert look(f"{IMPORTS}def main():\n    {use}\n") == [(SHUT, HEAD + 2)]


@pytest.mark.parametrize(
    "use",
    [
        "pool = P(); pool.submit(work); pool.shutdown()",
        "pool = mp.Pool(); pool.map(work, [1]); pool.close(); pool.join()",
        "pool = P()\n    with pool: pool.submit(work)",
        "pool = P(); return pool",
        "pool = P(); register(pool.shutdown)",
        "pool = P(); work(pool)",
        "pool = P()\n    def end(): pool.shutdown()\n    return end",
        "self.pool = P()",
        "return P()",
        "global shared; shared = ThreadPoolExecutor()",
    ],
)
def test_executor_that_is_shut_down_or_goes_elsewhere_is_left_alone(look, use):
    assert look(f"{IMPORTS}def main(self):\n    {use}\n") == []


def test_every_finding_says_what_why_and_what_to_do(look):
    look(f"{IMPORTS}{THREAD}t.start()\npool = mp.Pool()\npool.map(lambda n: n, [1])\n")
    assert {one.rule for one in look.findings} == {GUARD, PICKLE, FORK, SHUT}
    assert all(one.file and one.line and one.what and one.why and one.remedy for one in look.findings)
