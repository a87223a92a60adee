"""Programs of arrays on a real cluster of two workers: the same values as NumPy's."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

import zcluster
import zcluster.array as da
from zcluster.array.core import elementwise, from_numpy, permuted
from zcluster.array.expressions import Blockwise, Generated
from zcluster.client.client import Client
from zcluster.client.future import Future
from zcluster.client.waiting import wait
from zcluster.errors import InvalidArgument

if TYPE_CHECKING:
    from tests.processes.conftest import Log

pytestmark = pytest.mark.processes

Values = npt.NDArray[Any]

VALUES = np.arange(120_000.0).reshape(300, 400)
ROW = np.arange(400.0)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of two workers."""
    with Client(n_workers=2, threads_per_worker=1) as made:
        yield made


@pytest.fixture(scope="module")
def arrays(client: Client) -> list[tuple[Any, Any]]:
    """Return the same values in several ways: sent along, kept on the cluster, made there."""
    sent = from_numpy(VALUES, (70, 90)), from_numpy(ROW, 64)
    kept = sent[0].persist(), sent[1].persist()
    made = da.arange(120_000.0, chunks=7_000).reshape(300, 400), da.arange(400.0, chunks=33)
    return [sent, kept, made]


# Functions travel by value out of a test file, so each brings along what it uses.


def noted(block: Values, path: str, block_id: Any = None) -> Values:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{block_id}\n".encode())
    os.close(file)
    return block


def killed_once(block: Values, path: str, block_id: Any = None) -> Values:
    """Take down the worker, the first time that one of the blocks is seen."""
    if block_id == (1, 1):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return block
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return block


def fails(block: Values, block_id: Any = None) -> Values:
    if block_id == (1, 0):
        raise ValueError("of course")
    return block


def span(block: Values) -> Any:
    return block.min(axis=-1), block.max(axis=-1)


PROGRAMS: list[tuple[str, Callable[[Any, Any], Any]]] = [
    ("elementwise", lambda x, y: (x + 1) * y - x / 3),
    ("functions", lambda x, y: np.sqrt(x) + np.exp(-y)),
    ("sums", lambda x, y: (x * 2).sum(axis=0) + y.sum()),
    ("moments", lambda x, y: x.std(axis=1) + x.mean()),
    ("places", lambda x, y: (x % 17).argmax(axis=1)),
    ("slices", lambda x, y: x[5:290:7, ::-1] + y[::-1]),
    ("slices of steps", lambda x, y: x[::-3][:20, 100:300:2]),
    ("lists", lambda x, y: x[:, [3, 399, 3, 200]]),
    ("transposes", lambda x, y: x.T[::2] + x[:, ::2].T.mean(axis=0)),
    ("products", lambda x, y: x @ y),
    ("matrix products", lambda x, y: x[:50] @ x[50:100].T),
    ("reshapes", lambda x, y: x.reshape(100, 3, 400).sum(axis=1).ravel()[::11]),
    ("running totals", lambda x, y: x.cumsum(axis=0)[-1] + y.cumsum()),
    ("a number", lambda x, y: x.max() - y.min()),
]


NAMES = [name for name, _ in PROGRAMS]


class TestPrograms:
    """Each as one computation, over blocks that are sent and over blocks that are kept."""

    @pytest.mark.parametrize("program", [program for _, program in PROGRAMS], ids=NAMES)
    def test_values(self, arrays: Any, program: Callable[[Any, Any], Any]) -> None:
        """They are NumPy's."""
        expected = np.asarray(program(VALUES, ROW))
        found = zcluster.compute(*[program(x, y) for x, y in arrays])
        for one in found:
            assert np.shape(one) == expected.shape
            assert np.asarray(one).dtype == expected.dtype
            np.testing.assert_allclose(one, expected)

    def test_numbers(self, client: Client) -> None:
        """Arrays without axes, whose blocks are told nothing about their places."""

        def five(starts: tuple[int, ...], shape: tuple[int, ...]) -> Values:
            return np.full(shape, 5.0)

        number = da.Array(Generated("five", five, (), "f8"))
        assert zcluster.compute(number, number * 2) == (5, 10)

    def test_rechunks(self, client: Client) -> None:
        """Across all blocks, and there and back."""
        x = from_numpy(VALUES, (300, 40)).persist()
        np.testing.assert_array_equal(x.rechunk((30, 400)).compute(), VALUES)
        again = (x.rechunk((30, 400)) + 1).rechunk(((1, 299), (399, 1)))
        np.testing.assert_array_equal(again.compute(), VALUES + 1)

    def test_several_results(self, client: Client) -> None:
        """Each is taken from what the task returned, on whatever worker."""
        x = from_numpy(VALUES, (70, -1))
        low, high = da.apply_gufunc(span, "(i)->(),()", x)
        found = zcluster.compute(low, high, high - low)
        assert found[0].tolist() == VALUES.min(1).tolist()
        assert found[2].tolist() == [399.0] * 300

    def test_ghosting(self, client: Client) -> None:
        """Blocks with margins, corners included, and trimmed."""
        x = from_numpy(VALUES, (70, 90)).persist()

        def shifted(block: Values) -> Values:
            return np.roll(block, (1, 1), (0, 1))

        made = da.map_overlap(shifted, x, depth=1, boundary="periodic")
        np.testing.assert_array_equal(made.compute(), np.roll(VALUES, (1, 1), (0, 1)))
        made = da.map_overlap(shifted, x, depth=2, boundary="none")
        np.testing.assert_array_equal(made.compute()[1:, 1:], VALUES[:-1, :-1])


class TestKept:
    """Arrays whose blocks stay on the cluster."""

    def test_persisted(self, client: Client, log: Log) -> None:
        """They are made once, and used again and again."""
        x = da.map_blocks(noted, from_numpy(VALUES, (150, 200)), log.path, dtype="f8").persist()
        assert [type(one) for one in x.expr.blocks.ravel()] == [Future] * 4
        for _ in range(2):
            np.testing.assert_array_equal((x * 2).sum(axis=0).compute(), (VALUES * 2).sum(axis=0))
        assert sorted(log.lines()) == ["(0, 0)", "(0, 1)", "(1, 0)", "(1, 1)"]

    def test_futures(self, client: Client) -> None:
        """`client.compute` returns a future of the whole array, `client.persist` the array."""
        x = from_numpy(VALUES, (150, 200)) + 1
        future = client.compute(x)
        assert isinstance(future, Future)
        np.testing.assert_array_equal(future.result(), VALUES + 1)
        total, mean = client.compute([x.sum(), x.mean()])
        assert total.result() / VALUES.size == pytest.approx(mean.result())
        kept = client.persist(x)
        wait(list(kept.expr.blocks.ravel()))
        assert kept.name == x.name
        np.testing.assert_array_equal(kept.compute(), VALUES + 1)

    def test_functions_that_write_harm_nobody(self, client: Client) -> None:
        """Neither blocks that are kept, nor views of them, nor what comes after."""

        def spoil(block: Values) -> Values:
            np.negative(block, out=block)
            return block

        def spoiled(array: Any) -> Any:
            whole = [tuple(range(array.ndim))]
            return da.Array(
                Blockwise(
                    "spoil",
                    spoil,
                    [array.expr],
                    (0,),
                    whole,
                    array.chunks,
                    array.dtype,
                    reads_only=False,
                )
            )

        sent = from_numpy(VALUES[:20, :20], (20, 10))
        for x in (sent, sent + 1, (sent + 1).persist()):
            values = VALUES[:20, :20] + (x is not sent)
            for view in (permuted(x, (1, 0)), x[1:], elementwise(np.asarray, x)):
                seen = view.compute()
                first, kept, second, again, alone = zcluster.compute(
                    spoiled(view + 0), view * 1, spoiled(view), x * 2, spoiled(x)
                )
                np.testing.assert_array_equal(first, -seen)
                np.testing.assert_array_equal(kept, seen)
                np.testing.assert_array_equal(second, -seen)
                np.testing.assert_array_equal(again, values * 2)
                np.testing.assert_array_equal(alone, -values)
                np.testing.assert_array_equal(x.compute(), values)


class TestTrouble:
    """Errors, and workers that die."""

    def test_a_block_that_fails_is_named(self, client: Client) -> None:
        """With the arguments in short; and by what came after it too."""
        x = from_numpy(np.arange(24.0).reshape(4, 6), (2, 3)) + 1
        bad = da.map_blocks(fails, x, dtype="f8")
        with pytest.raises(ValueError, match="of course") as caught:
            bad.compute()
        notes = "\n".join(caught.value.__notes__)
        assert f"task ('{bad.name}', 1, 0) failed on worker" in notes
        assert "called with ([1, 0, 2, 3], <ndarray (2, 3) float64>)" in notes
        with pytest.raises(ValueError, match="of course") as caught:
            bad.persist().sum().compute()
        notes = "\n".join(caught.value.__notes__)
        assert f"an input failed, ('{bad.name}', 1, 0), on worker" in notes

    def test_a_block_of_another_shape_is_named(self, client: Client) -> None:
        """By its function, with what was promised."""
        x = from_numpy(VALUES, (150, 200))
        with pytest.raises(
            InvalidArgument, match=r"shape \(1, 200\) for block \(\d, \d\); promised"
        ):
            da.map_blocks(lambda block: block[:1], x).compute()

    def test_blocks_are_made_again_for_a_debugger(self, client: Client) -> None:
        """`recreate` runs the call of a block here, whatever its task takes."""
        x = da.map_overlap(np.copy, from_numpy(VALUES, (150, 200)).persist(), depth=1).persist()
        np.testing.assert_array_equal(client.recreate(x.expr.blocks[1, 1]), VALUES[150:, 200:])
        number = da.ones((), chunks=()).persist()
        assert client.recreate(number.expr.blocks[()]) == 1
        bad = da.map_blocks(fails, from_numpy(np.ones((2, 2)), 1), dtype="f8").persist()
        with pytest.raises(ValueError, match="of course"):
            client.recreate(bad.expr.blocks[1, 0])

    def test_random_numbers_are_the_same_after_a_worker_died(self, tmp_path: Path) -> None:
        """The blocks that it had are made again, by position, not by how often they are drawn."""
        generator = da.random.default_rng(3)
        x = generator.normal(size=(200, 300), chunks=(100, 150))
        expected = x.compute(scheduler="sync")
        with Client(n_workers=2, threads_per_worker=1) as client:
            kept = x.persist()
            wait(list(kept.expr.blocks.ravel()))
            made = da.map_blocks(killed_once, kept, str(tmp_path / "killed"), dtype="f8")
            found, again = client.gather(client.compute([made, kept]))
        assert (tmp_path / "killed").exists()
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(again, expected)
