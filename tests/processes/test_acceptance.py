"""Programs that people bring along run with only the imports changed, and print what they should.

They are in ``programs/``, each started as a process of its own in an empty folder. What must be
printed is compared here; what must not be left behind is checked by the fixtures of every test.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

_PROGRAMS = Path(__file__).parent / "programs"
_ODD = str([2 * i + 1 for i in range(20)])
_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e-[0-9]+)?"


def ways(quick: str) -> pytest.MarkDecorator:
    """Run a program with a client, and on the scheduler in the calling thread without one.

    The ``quick`` way is the one that always runs.
    """
    others = [
        pytest.param(option, marks=() if option == quick else pytest.mark.slow)
        for option in ("--client", "--none")
    ]
    return pytest.mark.parametrize("option", others)


def run(folder: Path, name: str, *options: str, status: int = 0) -> tuple[str, str]:
    """Run a program in a folder; return what it printed to standard output and error."""
    done = subprocess.run(
        [sys.executable, str(_PROGRAMS / f"{name}.py"), *options],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=45,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout, done.stderr


def estimates(text: str) -> list[float]:
    """Return the estimates of the blocks of three lines, after a look at all three lines.

    Threads that print at once may share a line, as anywhere in Python.
    """
    sizes = re.findall(rf"from ({_NUMBER}) GB randomly chosen positions", text)
    found = re.findall(rf" pi estimate: ({_NUMBER})", text)
    errors = re.findall(rf" pi error: ({_NUMBER})", text)
    assert len(sizes) == len(found) == len(errors), text
    off = sorted(abs(float(value) - math.pi) for value in found)
    assert sorted(map(float, errors)) == pytest.approx(off, abs=1e-9)
    return [float(value) for value in found]


def circles(folder: Path) -> int:
    """Return how many tasks the picture shows that `visualize` wrote."""
    root = ElementTree.parse(folder / "mydask.svg").getroot()
    return sum(element.tag.endswith("circle") for element in root.iter())


# ------------------------------------------------------------------------------ delayed pi


@ways(quick="--client")
def test_one_delayed_pi_is_a_tuple_of_one(tmp_path: Path, option: str) -> None:
    out, err = run(tmp_path, "p02_one_delayed_pi", option)
    # The picture came first, and drew without running.
    assert out.startswith("drawn, not run: 1\n")
    assert circles(tmp_path) == 1
    (estimate,) = estimates(out)
    assert 2.6 < estimate < 3.6
    assert out.endswith(f"\nresult tuple 1 {estimate}\n")
    assert err == ""


@ways(quick="--none")
def test_five_delayed_pi_in_one_graph(tmp_path: Path, option: str) -> None:
    out, err = run(tmp_path, "p03_five_delayed_pi", option)
    assert out.startswith("drawn, not run: 5\n")
    assert circles(tmp_path) == 5
    found = estimates(out)
    last = out.splitlines()[-1]
    results = [float(value) for value in re.findall(_NUMBER, last.partition("[")[2])]
    assert last.startswith("results tuple [")
    assert len(results) == 5
    assert sorted(found) == sorted(results)
    sizes = [float(text) for text in re.findall(rf"from ({_NUMBER}) GB", out)]
    assert sorted(sizes) == pytest.approx([1e-5, 2e-5, 3e-5, 4e-5, 5e-5])
    # Lines are printed as tasks come to them; results come in the order asked for: each is four
    # times a count of positions over the number of positions of its own size.
    for place, value in enumerate(results):
        count = value / 4 * 625 * (place + 1)
        assert count == pytest.approx(round(count), abs=1e-6)
    assert err == ""


def test_five_sizes_with_numpy_and_then_on_five_workers(tmp_path: Path) -> None:
    out, err = run(tmp_path, "p04_continuing_with_pi")
    before, between, after = re.split(r"time taken for (?:nupmy|dask w5/t1) is ", out)
    for text in (before, between):
        found = estimates(text)
        assert len(found) == 5
        assert all(3.1 < value < 3.18 for value in found)
    for text in (between, after):
        assert re.match(rf"{_NUMBER}\n", text)
    assert re.search(r"^<Client: '.*' processes=5 threads=5, memory=232\.83 GiB>$", out, re.M)
    # A limit above the memory of the machine is a warning, not an error.
    lines = [line for line in err.splitlines() if "Warning" in line]
    assert len(lines) <= 1
    assert all("memory_limit" in line for line in lines)


# ------------------------------------------------------------------------ delayed arithmetic


@ways(quick="--none")
def test_delayed_add_prints_itself_and_eleven(tmp_path: Path, option: str) -> None:
    out, err = run(tmp_path, "p15_delayed_add", option)
    uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert re.fullmatch(rf"Delayed\('add-{uuid}'\)\n11\n", out)
    assert circles(tmp_path) == 1
    assert err == ""


@ways(quick="--none")
def test_delayed_values_in_a_loop(tmp_path: Path, option: str) -> None:
    assert run(tmp_path, "p27_delayed_loop", option) == (f"{_ODD}\n", "")


@ways(quick="--client")
def test_decorated_functions_together_are_faster(tmp_path: Path, option: str) -> None:
    out, err = run(tmp_path, "p28_decorated", option)
    one_by_one, together, ratio = out.splitlines()
    assert one_by_one == together == _ODD
    # Four threads, and tasks that only sleep: 4 where nothing disturbs. In the calling thread
    # there is nothing to gain.
    if option == "--client":
        assert float(ratio.removeprefix("ratio ")) > 1.7
    assert err == ""


# ------------------------------------------------------------------------ scripts as they are


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    assert run(tmp_path, "unguarded") == ("in workers only: True True\n", "")
    assert len((tmp_path / "side-effects.txt").read_text().splitlines()) == 1


def test_a_script_that_never_closes_its_client_just_ends(tmp_path: Path) -> None:
    assert run(tmp_path, "no_close") == ("last line\n", "")


@pytest.mark.slow
def test_an_exception_of_a_task_ends_the_script_with_its_own_traceback(tmp_path: Path) -> None:
    out, err = run(tmp_path, "fails", status=1)
    assert out == "0.5\n"
    assert "\nZeroDivisionError: division by zero\n" in err
    assert "in divide" in err
    assert "return x / y" in err


@pytest.mark.slow
def test_a_second_client_does_not_disturb_the_first(tmp_path: Path) -> None:
    out, err = run(tmp_path, "two_clusters")
    lines = out.splitlines()
    assert lines[0] == "True True"
    assert re.fullmatch(r"<Client: 'ipc://.*' processes=2 threads=4, memory=1\.86 GiB>", lines[1])
    assert lines[2:] == ["3", "7", "11", "15"]
    assert err == ""


def test_chosen_workers_a_scheduler_file_and_a_task_that_submits(tmp_path: Path) -> None:
    out, err = run(tmp_path, "on_one_worker")
    assert out.splitlines() == ["True", str(list(range(1, 11))), "42", "3", "2", "closed"]
    assert "10/10" in err  # the bar
    assert not (tmp_path / "scheduler.json").exists()


@pytest.mark.slow
def test_calls_inside_a_running_event_loop(tmp_path: Path) -> None:
    assert run(tmp_path, "in_a_loop") == ("6\n", "")


# ------------------------------------------------------------------------- examples, documents

_ROOT = Path(__file__).parents[2]
#: What each example prints, as an expression: figures differ from run to run.
_EXAMPLES = {
    "array_pi": rf"zarray<uniform, .*>\n{_NUMBER} GB of random positions in {_NUMBER} s\n"
    rf"pi is about 3\.14[0-9]*, error {_NUMBER}\n",
    "delayed_tree": r"tree\.svg shows 15 tasks; nothing has run yet\n"
    r"the sum of 0 to 9999 is 49995000\n",
    "futures": r"load-[0-9a-f]+: file 7 cannot be read\n9 files hold 3800 numbers\n",
    "ghosting": r"zarray<trim, .*>\nheat flow, three steps: equal True\n"
    r"sliding maximum: equal True\nslope: equal True\n",
    "graph": r"'times' and 'it' come 4 times\n\[2, 2, 4\]\n",
    "pi": rf".*tasks, {_NUMBER} GB of random positions, {_NUMBER} s\n"
    rf"pi is about 3\.14[0-9]*, error {_NUMBER}\n",
}


def test_every_example_is_run() -> None:
    assert {path.stem for path in (_ROOT / "examples").glob("*.py")} == set(_EXAMPLES)


@pytest.mark.parametrize(
    "name",
    [
        name if name == "futures" else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(_EXAMPLES)
    ],
)
def test_an_example_prints_what_it_promises(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(_ROOT / "examples" / f"{name}.py")],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=45,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(_EXAMPLES[name], done.stdout, re.DOTALL), done.stdout
    assert "Traceback" not in done.stderr


def test_the_commands_of_the_readme_work_as_printed(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (_ROOT / "README.md").read_text(), re.DOTALL)
    (script,) = [block for block in blocks if "zcluster-scheduler" in block]
    commands = os.path.dirname(sys.executable)
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=45,
    )
    assert done.stdout == "[3, 2, 1, 0, 1, 2]\n", done.stderr
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "scheduler.json").exists()


# ----------------------------------------------------------------------------------- arrays


def test_a_lazy_range_says_what_it_is(tmp_path: Path) -> None:
    out, err = run(tmp_path, "p05_array_intro")
    lines = out.splitlines()
    assert "shape=(17,), dtype=int64, chunksize=(5,), chunktype=numpy.ndarray" in out
    assert "int64" in lines
    assert "(17,)" in lines
    assert "((5, 5, 5, 2),)" in lines
    assert "(5,)" in lines
    assert "tasks 4 4" in lines
    assert lines[-1] == "ndarray True"
    assert err == ""


@ways(quick="--client")
def test_blocked_sums_of_random_numbers(tmp_path: Path, option: str) -> None:
    out, _ = run(tmp_path, "p06_blocked_sums", option)
    assert "((10, 5), (5, 5, 5))" in out
    (tasks,) = re.findall(r"partial sums and a tree: ([0-9]+)", out)
    assert int(tasks) == 5
    (total,) = re.findall(rf"sum ({_NUMBER})", out)
    assert 0 < float(total) < 20
    (both,) = re.findall(rf"both ({_NUMBER}) ({_NUMBER})", out)
    assert float(both[0]) == pytest.approx(float(both[1]))
    assert 180 < float(both[0]) < 270


@ways(quick="--none")
def test_pi_of_a_chunked_array(tmp_path: Path, option: str) -> None:
    out, _ = run(tmp_path, "p09_array_pi", option)
    assert "uniform, shape=(625000, 2), dtype=float64, chunksize=(31250, 2)" in out
    assert "from 0.01 GB randomly chosen positions" in out
    (estimate,) = estimates(out)
    assert abs(estimate - math.pi) < 0.0083, "more than four standard deviations"
    assert out.endswith("float 0\n")


def test_pi_part_two_a_thousandth_of_the_size(tmp_path: Path) -> None:
    out, _ = run(tmp_path, "p10_pi_part_two", "1e8")
    lines = out.splitlines()
    assert lines[1] == "156250"
    assert "Created xy" in lines
    assert "Number of partitions/chunks is (40, 1)" in lines
    (estimate,) = re.findall(rf"pi estimate: ({_NUMBER})", out)
    assert abs(float(estimate) - math.pi) < 0.003


def test_the_sum_of_two_arrays(tmp_path: Path) -> None:
    out, _ = run(tmp_path, "p16_two_arrays")
    total, rest = out.split("\n", 1)
    assert 9_800 < float(total) < 10_200
    assert rest == "(4,) True\n"


def test_the_mean_of_an_array_and_its_picture(tmp_path: Path) -> None:
    out, _ = run(tmp_path, "p21_mean_of_an_array", "2000")
    assert "mean_agg-aggregate, shape=(), dtype=float64, chunksize=()" in out
    assert "Mean of the array: 0.5" in out or "Mean of the array: 0.49" in out
    ElementTree.parse(tmp_path / "da_mean.svg")


def test_cholesky_factors_and_a_slice_of_an_exponential(tmp_path: Path) -> None:
    out, _ = run(tmp_path, "p32_cholesky", "1000")
    assert "(100, 100) (10, 10)" in out
    assert out.count("Array in") == 2
    assert "\nequal True\n" in out
    assert "(9, 9) (9, 9) equal True" in out
