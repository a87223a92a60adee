"""What every test run has: a mark on its processes, a short scratch folder, a leak check.

The run marks itself with an environment variable, `ZCLUSTER_TEST_RUN`, that every process it
starts inherits, however far down. So a process that outlives its test is found even when its
parents are gone and it sits in a session of its own, and processes of other runs on the same
machine are never mistaken for ours.

Two checks use it: after each test marked ``processes`` nothing may be there that was not there
before it (processes, scratch entries, shared memory, threads, descriptors, mappings of a store),
and at the end of the run no process, entry or thread at all. "Before" may hold what a fixture of a
wider scope keeps for several tests, a cluster for instance; the check at the end catches that one.
What is found is named, then killed or removed, so that the tests that follow are not blamed for it.

A test marked ``dask("Client.submit", ...)`` proves that these names work as they do in Dask, one
marked ``proves("array.sum", ...)`` that arrays give what NumPy gives: it has to compare the two. In
the names of the latter, ``{name}`` stands for the parameter `name` of the test. What became of such
tests is kept in ``build/dask-names.json`` and ``build/array-names.json``, run after run;
`docs/generate_dask.py` and `docs/generate_array.py` make pages of it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest

RUN = uuid.uuid4().hex
RUN_VARIABLE = "ZCLUSTER_TEST_RUN"
SHARED_MEMORY = Path("/dev/shm")
OURS = "zc-"  # how the names of our scratch folders and files begin

_scratch = Path(tempfile.mkdtemp(prefix="zct-", dir="/tmp"))  # short: ipc paths end at 107 bytes

# At a desk every run tries other examples, and what failed is tried first the next time. In CI a
# change is judged by the same examples as the one before it.
hypothesis.settings.register_profile("desk", deadline=None, print_blob=True, derandomize=False)
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "desk")
)


# --- the run ------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("leak_grace", "seconds a test's leavings may take to go away", default="20")


def pytest_configure(config: pytest.Config) -> None:
    os.environ[RUN_VARIABLE] = RUN


def pytest_report_header(config: pytest.Config) -> list[str]:
    seed = config.getoption("hypothesis_seed", None)
    chance = "not fixed, failures are kept in .hypothesis" if seed is None else f"{seed}"
    if hypothesis.settings().derandomize:
        chance = "made from each test's text"
    return [
        f"hypothesis seed: {chance} (--hypothesis-seed=N fixes it)",
        f"scratch: {_scratch} ({RUN_VARIABLE}={RUN})",
    ]


def pytest_unconfigure() -> None:
    shutil.rmtree(_scratch, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the time spent by folder, setup and teardown included."""
    seconds: dict[str, float] = defaultdict(float)
    tests: dict[str, int] = defaultdict(int)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                folder = str(Path(report.nodeid.partition("::")[0]).parent)
                seconds[folder] += report.duration
                tests[folder] += report.when == "call"
    if seconds:
        terminalreporter.section("time by folder", sep="-")
    for folder in sorted(seconds):
        terminalreporter.line(f"{seconds[folder]:8.2f} s  {tests[folder]:5d} tests  {folder}")


# --- what the tests prove of the names of Dask and NumPy ----------------------------------------

#: What became of the tests, by their mark; beneath the root of the run.
REPORTS = {
    "dask": Path("build", "dask-names.json"),
    "proves": Path("build", "array-names.json"),
}

_proven: dict[str, dict[str, list[str]]] = {mark: {} for mark in REPORTS}  # names, by test
_read: set[str] = set()  # files that tests were collected from
_phases: dict[str, list[str]] = defaultdict(list)  # how setup, call and teardown of each ended
_broken: set[str] = set()  # files that could not be read


@pytest.hookimpl(tryfirst=True)  # before -k and -m take some away
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        _read.add(item.nodeid.partition("::")[0])
        for kind, proven in _proven.items():
            names = {name for mark in item.iter_markers(kind) for name in mark.args}
            if kind == "proves":
                names = {_filled(name, item) for name in names}
            if names:
                proven[item.nodeid] = sorted(names)


def _filled(name: str, item: pytest.Item) -> str:
    """Return a marked name with the test's parameters in place of their names."""
    if "{" not in name:
        return name
    call = getattr(item, "callspec", None)
    try:
        return name.format(**(call.params if call is not None else {}))
    except (LookupError, AttributeError) as error:
        raise pytest.UsageError(
            f"{item.nodeid} is marked with {name!r}: {error!r}; expected names of its parameters"
        ) from error


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _broken.add(report.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if any(report.nodeid in proven for proven in _proven.values()):
        _phases[report.nodeid].append(report.outcome)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Add the tests that ran to the reports; take away those that are no more."""
    for mark, path in REPORTS.items():
        _report(session, session.config.rootpath / path, _proven[mark])


def _report(session: pytest.Session, path: Path, proven: dict[str, list[str]]) -> None:
    if not proven and not path.exists():
        return
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    lines = dict(before)
    is_whole = not any("::" in argument for argument in session.config.args)
    for test in list(lines):
        file = test.partition("::")[0]
        is_gone = is_whole and file in _read and test not in proven
        if is_gone or file in _broken or not (session.config.rootpath / file).exists():
            del lines[test]
    for test, names in proven.items():
        if test in _phases:
            lines[test] = {"outcome": _outcome(_phases[test]), "names": names}
    if lines == before:
        return  # another run beside this one may have more to say
    path.parent.mkdir(exist_ok=True)
    scratch = path.with_suffix(f".{RUN}")  # of this run alone: others may be at work
    scratch.write_text(json.dumps(dict(sorted(lines.items())), indent=1), encoding="utf-8")
    scratch.replace(path)


def _outcome(phases: list[str]) -> str:
    """Return how a test ended, of which all three parts must have passed."""
    if phases == ["passed", "passed", "passed"]:
        return "passed"
    return "skipped" if "skipped" in phases and "failed" not in phases else "failed"


# --- the leak check -----------------------------------------------------------------------------

_reported: set[threading.Thread] = set()
#: Threads of ours that may outlive whatever they were started for: they wait for more to do.
_KEPT_THREADS = ("zcluster-threads-",)
#: Threads that are a client, or a part of a cluster.
_MEMBERS = ("zcluster-client", "zcluster-cluster", "zcluster-scheduler", "zcluster-nanny")
#: Memory of a node's store, as /proc names it.
_STORE = "/memfd:zcluster"


@dataclass(frozen=True)
class Traces:
    """What a test can leave behind, at one moment."""

    processes: frozenset[psutil.Process]  # equal by pid and start time: a pid may come again
    files: frozenset[Path]
    threads: frozenset[threading.Thread]
    #: What descriptors of this process are open on, and mappings of a store, each counted: sockets
    #: and pipes have numbers of their own, others are known by their number alone.
    descriptors: Counter[str]
    mappings: int

    def since(self, before: Traces) -> Traces:
        """Return what is here now and was not before.

        Beside a cluster or client that was there before, and stays, nobody can tell what it opened
        of late: of our threads only those count then that are one.
        """
        threads = self.threads - before.threads
        descriptors, mappings = self.descriptors - before.descriptors, self.mappings
        if any(thread.name in _MEMBERS for thread in self.threads & before.threads):
            threads = frozenset(t for t in threads if not t.daemon or t.name in _MEMBERS)
            descriptors, mappings = Counter(), 0
        return Traces(
            self.processes - before.processes,
            self.files - before.files,
            threads,
            descriptors,
            max(0, mappings - before.mappings),
        )

    def __bool__(self) -> bool:
        return bool(
            self.processes or self.files or self.threads or self.descriptors or self.mappings
        )

    def describe(self) -> str:
        lines = [f"  process {_describe_process(process)}" for process in self.processes]
        lines += [f"  file {path}" for path in self.files]
        lines += [
            f"  thread {thread.name} ({'' if thread.daemon else 'not '}a daemon, still alive)"
            for thread in self.threads
        ]
        lines += [
            f"  descriptor of {target}{_describe_socket(target)}, {count} more"
            for target, count in self.descriptors.items()
        ]
        if self.mappings:
            lines.append(f"  mapping of a store's memory, {self.mappings} more")
        return "\n".join(sorted(lines))

    def remove(self) -> None:
        """Kill and delete, so that the next test starts clean."""
        _reported.update(self.threads)  # nothing can end a thread; it is named once
        for process in self.processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
                if process.ppid() == os.getpid():
                    process.wait(10)  # reaps it; a zombie would be reported again
        for path in self.files:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def look() -> Traces:
    """Return everything of this run that is there now."""
    files = set(_scratch.glob(OURS + "*"))
    if SHARED_MEMORY.is_dir():
        files.update(path for path in SHARED_MEMORY.iterdir() if path.name.startswith("zc"))
    threads = {
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and thread not in _reported and _counts(thread)
    }
    return Traces(
        frozenset(_processes_of_run()),
        frozenset(files),
        frozenset(threads),
        Counter(_descriptors()),
        _mappings(),
    )


def wait_gone(before: Traces, seconds: float) -> Traces:
    """Return what is new since `before` and did not go away within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        left = look().since(before)
        if not left or time.monotonic() > deadline:
            return left
        gc.collect()  # what only a cycle holds is let go of some time
        time.sleep(0.02)  # between two looks at the condition, not instead of one


def _counts(thread: threading.Thread) -> bool:
    """Whether a thread has to end with what started it: ours, and what others would wait for."""
    ours = thread.name.startswith("zcluster") and not thread.name.startswith(_KEPT_THREADS)
    return ours or not thread.daemon


def _descriptors() -> Iterator[str]:
    """Yield what each open descriptor of this process is open on, where the system tells."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the folder's own is closed by now
                yield os.readlink(f"/proc/self/fd/{name}")


def _describe_socket(target: str) -> str:
    """Return where a socket leads, if it is one that has a name."""
    if not target.startswith("socket:"):
        return ""
    with contextlib.suppress(psutil.Error, OSError):
        for one in psutil.Process().net_connections("all"):
            with contextlib.suppress(OSError):
                if one.fd >= 0 and os.readlink(f"/proc/self/fd/{one.fd}") == target:
                    return f" (from {one.laddr} to {one.raddr})"
    return ""


def _mappings() -> int:
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            return maps.read().count(_STORE)
    except OSError:
        return 0


def _processes_of_run() -> Iterator[psutil.Process]:
    this = psutil.Process()
    # A child forked from here without exec shows the environment we were started with, which
    # lacks the mark; a process whose parents died has it but is nobody's descendant.
    seen = set(this.children(recursive=True))
    seen.update(process for process in psutil.process_iter() if _is_marked(process))
    seen.discard(this)
    for process in seen:
        if not _is_resource_tracker(process):
            yield process


def _is_marked(process: psutil.Process) -> bool:
    try:
        return process.environ().get(RUN_VARIABLE) == RUN
    except (psutil.Error, OSError):  # ended meanwhile, a zombie, or somebody else's
        return False


def _is_resource_tracker(process: psutil.Process) -> bool:
    """Tell the standard library's helper, which stays until the interpreter ends, by design."""
    try:
        return any("multiprocessing.resource_tracker" in part for part in process.cmdline())
    except psutil.Error:
        return False


def _describe_process(process: psutil.Process) -> str:
    try:
        with process.oneshot():
            words = " ".join(process.cmdline()) or process.name()
            return f"{process.pid} ({process.status()}, parent {process.ppid()}): {words[:300]}"
    except psutil.Error:
        return f"{process.pid} (ended while it was looked at)"


def _fail_on(left: Traces, where: str) -> None:
    if left:
        found = left.describe()
        left.remove()
        pytest.fail(f"left behind by {where}:\n{found}", pytrace=False)


def _own() -> dict[str, Any]:
    """Return what the process itself has open now."""
    now = look()
    return {"descriptors": now.descriptors, "mappings": now.mappings}


@pytest.fixture(autouse=True, scope="session")
def _short_scratch(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Send everything temporary to the run's folder, and check that the run leaves nothing."""
    tmp_path_factory.getbasetemp()  # chosen before TMPDIR moves: pytest keeps its own for a while
    grace = float(pytestconfig.getini("leak_grace"))
    before = look()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(_scratch))
        patch.setenv("XDG_CONFIG_HOME", str(_scratch / "config"))  # not what a developer has set
        patch.setattr(tempfile, "tempdir", None)  # what it remembers from before
        yield
        # What was imported on the way keeps some descriptors, and that is no leak.
        _fail_on(wait_gone(replace(before, **_own()), grace), "the whole run")


@pytest.fixture(autouse=True)
def _interrupts_as_before() -> Iterator[None]:
    """Fail a test that leaves Ctrl-C handled otherwise: it would end a later one, or the run."""
    before = signal.getsignal(signal.SIGINT)
    yield
    after = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
    assert after is before or after == before, f"SIGINT is handled by {after}, before by {before}"


@pytest.fixture(autouse=True, scope="module")
def _nothing_left_by_file(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the last test of a file whose shared clusters leave something behind."""
    yield from _watched(request)


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test marked ``processes`` that leaves something behind."""
    yield from _watched(request)


def _watched(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("processes") is None:
        yield
        return
    before = look()
    yield
    grace = float(request.config.getini("leak_grace"))
    _fail_on(wait_gone(before, grace), request.node.nodeid)
