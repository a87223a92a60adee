"""Each distribution is the one that it is called after, and its numbers do not depend on chunks."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import scipy.stats as stats
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster.array.random.building as building
import zcluster.array.random.samplers as samplers
from zcluster.array.core import Array
from zcluster.array.expressions import Generated
from zcluster.array.random import Generator, RandomState, default_rng
from zcluster.errors import InvalidArgument

# Method, parameters, and the same distribution of SciPy's.
CONTINUOUS: list[tuple[str, tuple[Any, ...], Any]] = [
    ("beta", (2.0, 3.0), stats.beta(2, 3)),
    ("chisquare", (5.0,), stats.chi2(5)),
    ("exponential", (2.0,), stats.expon(scale=2)),
    ("f", (6.0, 12.0), stats.f(6, 12)),
    ("gamma", (3.0, 2.0), stats.gamma(3, scale=2)),
    ("gumbel", (1.0, 2.0), stats.gumbel_r(1, 2)),
    ("laplace", (1.0, 2.0), stats.laplace(1, 2)),
    ("logistic", (1.0, 2.0), stats.logistic(1, 2)),
    ("lognormal", (0.5, 0.4), stats.lognorm(0.4, scale=math.exp(0.5))),
    ("noncentral_chisquare", (5.0, 2.0), stats.ncx2(5, 2)),
    ("noncentral_f", (6.0, 12.0, 2.0), stats.ncf(6, 12, 2)),
    ("normal", (3.0, 2.0), stats.norm(3, 2)),
    ("pareto", (5.0,), stats.lomax(5)),
    ("power", (3.0,), stats.powerlaw(3)),
    ("rayleigh", (2.0,), stats.rayleigh(scale=2)),
    ("standard_cauchy", (), stats.cauchy()),
    ("standard_t", (7.0,), stats.t(7)),
    ("triangular", (1.0, 2.0, 5.0), stats.triang(0.25, 1, 4)),
    ("uniform", (-1.0, 3.0), stats.uniform(-1, 4)),
    ("vonmises", (0.0, 2.0), stats.vonmises(2)),
    ("wald", (2.0, 3.0), stats.invgauss(2 / 3, scale=3)),
    ("weibull", (2.0,), stats.weibull_min(2)),
    ("random", (), stats.uniform()),
    ("standard_normal", (), stats.norm()),
    ("standard_exponential", (), stats.expon()),
    ("standard_gamma", (3.0,), stats.gamma(3)),
]
DISCRETE: list[tuple[str, tuple[Any, ...], Any]] = [
    ("binomial", (20, 0.3), stats.binom(20, 0.3)),
    ("geometric", (0.3,), stats.geom(0.3)),
    ("hypergeometric", (15, 12, 10), stats.hypergeom(27, 15, 10)),
    ("integers", (2, 12), stats.randint(2, 12)),
    ("logseries", (0.6,), stats.logser(0.6)),
    ("negative_binomial", (4.0, 0.4), stats.nbinom(4, 0.4)),
    ("poisson", (6.0,), stats.poisson(6)),
    ("zipf", (4.5,), stats.zipf(4.5)),
]
ALL = [*CONTINUOUS, *DISCRETE]
# One has none; SciPy takes seconds for the other's.
WITH_MEAN = [one for one in ALL if one[0] not in ("standard_cauchy", "vonmises")]
COUNT = 30_000

by_name = pytest.mark.parametrize(
    ("name", "parameters", "expected"), ALL, ids=[one[0] for one in ALL]
)


def draw(name: str, parameters: tuple[Any, ...], size: Any, seed: int = 5, **kwargs: Any) -> Array:
    drawn: Array = getattr(default_rng(seed), name)(*parameters, size=size, **kwargs)
    return drawn


def computed(array: Array) -> Any:
    return array.compute(scheduler="sync")


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    WITH_MEAN,
    ids=[one[0] for one in WITH_MEAN],
)
def test_the_mean_is_right(name: str, parameters: tuple[Any, ...], expected: Any) -> None:
    """Within four standard deviations of a mean of so many; many cells are in it."""
    found = computed(draw(name, parameters, (300, COUNT // 300)))
    assert abs(found.mean() - expected.mean()) < 4 * expected.std() / math.sqrt(COUNT)


@pytest.mark.parametrize(
    ("name", "parameters", "expected"), CONTINUOUS, ids=[one[0] for one in CONTINUOUS]
)
def test_the_distribution_function_is_right(
    name: str, parameters: tuple[Any, ...], expected: Any
) -> None:
    """Kolmogorov and Smirnov's distance; 2.2 is exceeded once in 8,000 times."""
    found = np.sort(computed(draw(name, parameters, 10_000)))
    shares = expected.cdf(found)
    steps = np.arange(len(found) + 1) / len(found)
    distance = max((steps[1:] - shares).max(), (shares - steps[:-1]).max())
    assert distance * math.sqrt(len(found)) < 2.2


@pytest.mark.parametrize(
    ("name", "parameters", "expected"), DISCRETE, ids=[one[0] for one in DISCRETE]
)
def test_the_frequencies_are_right(name: str, parameters: tuple[Any, ...], expected: Any) -> None:
    """Of each number that is met often enough, within five standard deviations."""
    found = computed(draw(name, parameters, COUNT))
    assert found.dtype == np.int64
    numbers, counts = np.unique(found, return_counts=True)
    wanted = COUNT * expected.pmf(numbers)
    often = wanted > 25
    assert often.sum() > 2
    assert (np.abs(counts - wanted)[often] < 5 * np.sqrt(wanted[often])).all()


@by_name
def test_chunks_do_not_matter(name: str, parameters: tuple[Any, ...], expected: Any) -> None:
    """Nor does who computes them; the next draw has other numbers."""
    size = (70, 60)
    whole = computed(draw(name, parameters, size, chunks=-1))
    for chunks in (17, (70, 7), ((1, 50, 19), (30, 30))):
        again = draw(name, parameters, size, chunks=chunks)
        assert computed(again).tobytes() == whole.tobytes()
        assert again.compute(scheduler="threads").tobytes() == whole.tobytes()
    assert not np.array_equal(computed(draw(name, parameters, size, seed=6)), whole)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [one[:2] for one in ALL if one[1]],
    ids=[one[0] for one in ALL if one[1]],
)
def test_parameters_may_be_arrays(name: str, parameters: tuple[Any, ...]) -> None:
    """NumPy arrays and lazy ones in any chunks draw the same numbers."""
    first = np.array(parameters[0]) * np.ones((40, 1), np.asarray(parameters[0]).dtype)
    size = (40, 90)
    whole = computed(draw(name, (first, *parameters[1:]), size))
    in_chunks = draw(name, (first, *parameters[1:]), size, chunks=13)
    assert np.array_equal(computed(in_chunks), whole)
    lazy = default_rng(1).permutation(first, chunks=(7, 1))  # all rows are alike
    assert np.array_equal(computed(draw(name, (lazy, *parameters[1:]), size, chunks=13)), whole)


@settings(max_examples=25)
@given(
    st.lists(st.sampled_from([0, 1, 2, 5, 7, 11]), max_size=4).map(tuple),
    st.sampled_from(ALL),
    st.data(),
)
def test_small_and_odd_shapes(shape: tuple[int, ...], which: Any, data: Any) -> None:
    """No axes, empty ones, primes, in any chunks, with cells of a few elements."""
    chunks = tuple(data.draw(st.integers(1, max(n, 1))) for n in shape)
    name, parameters, _ = which
    with patch.object(samplers, "_ROOM", 20), patch.object(samplers, "_ROOM_QUICK", 30):
        whole = computed(draw(name, parameters, shape))
        assert np.shape(whole) == shape
        assert np.array_equal(computed(draw(name, parameters, shape, chunks=chunks)), whole)


def test_a_large_array_of_parameters_is_cut_by_the_graph() -> None:
    """And not sent along with the function that draws; the numbers are the same."""
    scale = np.linspace(1, 2, 300 * 400).reshape(300, 400)
    array = draw("normal", (0.0, scale), None, chunks=90)
    assert array.chunks == ((90, 90, 90, 30), (90, 90, 90, 90, 40))
    with patch.object(building, "_LARGE", 10**9):
        small = draw("normal", (0.0, scale), None, chunks=90)
    assert type(small.expr) is Generated is not type(array.expr)
    assert np.array_equal(computed(small), computed(array))


def test_slices_are_parts_of_the_whole() -> None:
    """Drawn by themselves or not."""
    array = draw("normal", (), (500, 400), chunks=100)
    whole = computed(array)
    for part in [np.s_[3:499, 100:102], np.s_[:, 7], np.s_[::-3, 50:350:7], np.s_[250, 250]]:
        assert np.array_equal(computed(array[part]), whole[part])


# Vectors ------------------------------------------------------------------------------------------

VECTORS: list[tuple[str, tuple[Any, ...], Any]] = [
    ("dirichlet", ([1.0, 2.0, 3.0],), [1 / 6, 2 / 6, 3 / 6]),
    ("multinomial", (20, [0.2, 0.3, 0.5]), [4.0, 6.0, 10.0]),
    ("multivariate_hypergeometric", ([10, 20, 30], 12), [2.0, 4.0, 6.0]),
    ("multivariate_normal", ([1.0, -1.0], [[2.0, 0.5], [0.5, 1.0]]), [1.0, -1.0]),
]


@pytest.mark.parametrize(("name", "parameters", "means"), VECTORS, ids=[one[0] for one in VECTORS])
def test_vectors_go_along_an_axis_of_their_own(
    name: str, parameters: tuple[Any, ...], means: list[float]
) -> None:
    array = draw(name, parameters, (100, 60), chunks=40)
    assert array.chunks == ((40, 40, 20), (40, 20), (len(means),))
    found = computed(array)
    spread = found.std(axis=(0, 1)) / math.sqrt(6000)
    assert (np.abs(found.mean(axis=(0, 1)) - means) < 4 * spread).all()
    assert np.array_equal(computed(draw(name, parameters, (100, 60), chunks=(1, -1))), found)
    assert np.array_equal(computed(array[5:50, 3, :1]), found[5:50, 3, :1])
    assert computed(draw(name, parameters, None)).shape == (len(means),)


def test_multinomial_trials_may_differ() -> None:
    trials = np.array([1, 10, 100])
    found = computed(draw("multinomial", (trials, [0.5, 0.5]), (4, 3), chunks=2))
    assert (found.sum(-1) == trials).all()


def test_vectors_have_one_axis() -> None:
    with pytest.raises(InvalidArgument, match="expected one axis"):
        draw("dirichlet", ([[1.0, 2.0]],), 3)


def test_automatic_chunks_count_whole_vectors() -> None:
    """A block of vectors is as large as other blocks."""
    array = draw("dirichlet", (np.ones(1000),), 10**6)
    assert max(array.chunks[0]) * 8000 <= 2**27


# What is refused ----------------------------------------------------------------------------------

WRONG: list[tuple[str, tuple[Any, ...]]] = [
    ("normal", (0, -1)),
    ("normal", (0, np.array([1.0, -1.0]))),
    ("poisson", (-1,)),
    ("binomial", (5, 1.5)),
    ("beta", (0, 1)),
    ("triangular", (3, 2, 1)),
    ("uniform", (0, np.inf)),
    ("hypergeometric", (1, 1, 5)),
    ("zipf", (0.5,)),
    ("integers", (3, 3)),
    ("integers", (3, np.array([4, 2]))),
    ("dirichlet", ([1.0, -1.0],)),
    ("multinomial", (5, [0.9, 0.9, 0.1])),
    ("multivariate_hypergeometric", ([1, 2], 9)),
    ("multivariate_normal", ([1.0], [[1.0, 2.0]])),
]


@pytest.mark.parametrize(("name", "parameters"), WRONG)
def test_wrong_parameters_are_refused_at_the_call(name: str, parameters: tuple[Any, ...]) -> None:
    """As NumPy refuses them; a refused call draws nothing."""
    generator = default_rng(5)
    with pytest.raises(InvalidArgument, match=name):
        getattr(generator, name)(*parameters, size=2)
    assert generator.random(3).name == default_rng(5).random(3).name


def test_a_wrong_lazy_parameter_shows_when_it_is_computed() -> None:
    lazy = default_rng(1).uniform(-2, -1, 5)
    array = draw("normal", (0, lazy), 5)
    with pytest.raises(ValueError, match="scale < 0"):
        computed(array)


@pytest.mark.parametrize("size", [-1, (3, -2)])
def test_a_size_below_zero_is_refused(size: Any) -> None:
    with pytest.raises(InvalidArgument, match="expected lengths of 0 or more"):
        draw("normal", (), size)


def test_a_size_of_no_integer_is_refused() -> None:
    with pytest.raises(TypeError, match="expected an integer"):
        draw("normal", (), 2.5)


def test_chunks_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="add up to 3; expected 4"):
        draw("normal", (), 4, chunks=((1, 2),))


@pytest.mark.parametrize("size", [(4,), (2, 5), (1,)])
def test_a_size_that_parameters_do_not_go_with_is_refused(size: Any) -> None:
    for loc in (np.arange(3.0), default_rng().random(3)):
        with pytest.raises(InvalidArgument, match="expected shapes that broadcast"):
            draw("normal", (loc,), size)


def test_parameters_give_the_size_that_is_not_said() -> None:
    array = draw("normal", (np.zeros((3, 1)), default_rng().random(4)), None)
    assert array.shape == (3, 4)
    assert draw("normal", (), None).shape == ()


# The dtype ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["random", "standard_normal", "standard_exponential"])
def test_single_precision_is_drawn_as_such(name: str) -> None:
    single = draw(name, (), (50, 70), dtype=np.float32, chunks=33)
    found = computed(single)
    assert single.dtype == found.dtype == np.float32
    assert np.array_equal(computed(draw(name, (), (50, 70), dtype="f4")), found)
    assert len(np.unique(found)) > 3000


def test_others_are_cast() -> None:
    half = draw("normal", (), 1000, dtype="f2")
    assert computed(half).dtype == half.dtype == np.float16
    assert np.array_equal(computed(half), computed(draw("normal", (), 1000)).astype("f2"))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("random", "f2"), ("integers", "f8"), ("normal", "i4"), ("poisson", "u1")],
)
def test_a_dtype_of_another_kind_is_refused(name: str, dtype: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{name} with dtype="):
        draw(name, (3,) if name == "integers" else (), 3, dtype=dtype)


def test_integers_have_every_dtype_and_may_reach_the_end() -> None:
    for dtype in ("i1", "u1", "i4", "u8", "bool"):
        found = computed(draw("integers", (0, 1), 200, dtype=dtype, endpoint=True, chunks=33))
        assert found.dtype == np.dtype(dtype)
        assert set(found.tolist()) == {0, 1}
    assert computed(draw("integers", (3,), 200)).max() == 2


# What is no array ---------------------------------------------------------------------------------


def test_bytes_are_there_at_once() -> None:
    generator = default_rng(5)
    first = generator.bytes(10)
    assert len(first) == 10
    assert first != generator.bytes(10)
    assert first == default_rng(5).bytes(10)


@pytest.mark.parametrize("make", [Generator, RandomState])
def test_shuffling_names_the_way_round(make: Any) -> None:
    with pytest.raises(NotImplementedError, match=r"x = permutation\(x\)"):
        make(5).shuffle(np.arange(3))
