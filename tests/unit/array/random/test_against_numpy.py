"""The same call here and in NumPy gives numbers of the same kind, with the same distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from zcluster.array import random
from zcluster.array.core import from_numpy

SIZE = (70, 40)
#: By name, the parameters; the names are in the module and both of its classes.
CALLS: dict[str, tuple[Any, ...]] = {
    "beta": (2.0, 3.0),
    "binomial": (20, 0.3),
    "chisquare": (5.0,),
    "dirichlet": ([1.0, 2.0, 3.0],),
    "exponential": (2.0,),
    "f": (6.0, 12.0),
    "gamma": (3.0, 2.0),
    "geometric": (0.3,),
    "gumbel": (1.0, 2.0),
    "hypergeometric": (15, 12, 10),
    "laplace": (1.0, 2.0),
    "logistic": (1.0, 2.0),
    "lognormal": (0.5, 0.4),
    "logseries": (0.6,),
    "multinomial": (20, [0.2, 0.8]),
    "multivariate_normal": ([1.0, 2.0], [[1.0, 0.5], [0.5, 2.0]]),
    "negative_binomial": (4.0, 0.4),
    "noncentral_chisquare": (5.0, 2.0),
    "noncentral_f": (6.0, 12.0, 2.0),
    "normal": (3.0, 2.0),
    "pareto": (5.0,),
    "poisson": (6.0,),
    "power": (3.0,),
    "random": (),
    "rayleigh": (2.0,),
    "standard_cauchy": (),
    "standard_exponential": (),
    "standard_gamma": (3.0,),
    "standard_normal": (),
    "standard_t": (7.0,),
    "triangular": (1.0, 2.0, 5.0),
    "uniform": (-1.0, 3.0),
    "vonmises": (0.5, 2.0),
    "wald": (2.0, 3.0),
    "weibull": (2.0,),
    "zipf": (4.5,),
}
NEW: dict[str, tuple[Any, ...]] = {
    "integers": (2, 12),
    "multivariate_hypergeometric": ([10, 20], 12),
}
OLD: dict[str, tuple[Any, ...]] = {
    "randint": (2, 12),
    "random_sample": (),
    "ranf": (),
    "sample": (),
}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """The shared state has a seed, and other tests find it as it was."""
    before = random.get_state()
    random.seed(5)
    yield
    random.set_state(before)


def assert_alike(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> None:
    """Same shapes and dtypes, and a distance of distribution functions that two samples have.

    By Kolmogorov and Smirnov: more than this is found once in 8,000 times.
    """
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    if ours.ndim > len(SIZE):
        ours, theirs = ours[..., 0], theirs[..., 0]
    one, other = np.sort(ours, axis=None), np.sort(theirs, axis=None)
    both = np.concatenate([one, other])
    shares = [np.searchsorted(each, both, side="right") / each.size for each in (one, other)]
    assert np.abs(shares[0] - shares[1]).max() < 2.2 * math.sqrt(2 / one.size)


@pytest.mark.proves(
    "array.random.{name}", "array.random.Generator.{name}", "array.random.RandomState.{name}"
)
@pytest.mark.parametrize("name", CALLS)
def test_a_distribution_has_three_spellings(name: str) -> None:
    """All three give the same numbers for the same seed."""
    parameters = CALLS[name]
    array = getattr(random, name)(*parameters, size=SIZE)
    found = array.compute(scheduler="sync")
    assert_alike(found, getattr(np.random.default_rng(5), name)(*parameters, size=SIZE))
    for other in (random.default_rng(5), random.RandomState(5)):
        drawn = getattr(other, name)(*parameters, size=SIZE, chunks=33)
        assert np.array_equal(drawn.compute(scheduler="sync"), found)


@pytest.mark.proves("array.random.Generator.{name}")
@pytest.mark.parametrize("name", NEW)
def test_names_that_only_generators_have(name: str) -> None:
    array = getattr(random.default_rng(5), name)(*NEW[name], size=SIZE, chunks=33)
    theirs = getattr(np.random.default_rng(5), name)(*NEW[name], size=SIZE)
    assert_alike(array.compute(scheduler="sync"), theirs)


@pytest.mark.proves("array.random.{name}")
@pytest.mark.parametrize("name", OLD)
def test_names_that_generators_do_not_have(name: str) -> None:
    array = getattr(random, name)(*OLD[name], size=SIZE, chunks=33)
    theirs = getattr(np.random, name)(*OLD[name], size=SIZE)
    assert_alike(array.compute(scheduler="sync"), theirs)


@pytest.mark.proves(
    "array.random.rand",
    "array.random.randn",
    "array.random.RandomState.rand",
    "array.random.RandomState.randn",
    "array.random.RandomState.randint",
    "array.random.RandomState.random_sample",
    "array.random.RandomState.tomaxint",
)
def test_lengths_as_arguments_and_other_old_ways() -> None:
    ours, theirs = random.RandomState(5), np.random.RandomState(5)
    pairs = [
        (random.rand(*SIZE), np.random.rand(*SIZE)),
        (random.randn(*SIZE), np.random.randn(*SIZE)),
        (ours.rand(*SIZE), theirs.rand(*SIZE)),
        (ours.randn(*SIZE), theirs.randn(*SIZE)),
        (ours.randint(7, size=SIZE), theirs.randint(7, size=SIZE)),
        (ours.random_sample(SIZE), theirs.random_sample(SIZE)),
        (ours.tomaxint(SIZE), theirs.tomaxint(SIZE)),
    ]
    for one, other in pairs:
        assert_alike(one.compute(scheduler="sync"), np.asarray(other))


@pytest.mark.proves("array.random.random_integers", "array.random.RandomState.random_integers")
def test_integers_with_their_last_one() -> None:
    """NumPy has deprecated the name, and says to call `randint` with one more."""
    for source in (random, random.RandomState(5)):
        found = source.random_integers(2, 12, SIZE).compute(scheduler="sync")
        assert_alike(found, np.random.RandomState(5).randint(2, 13, SIZE))


@pytest.mark.proves(
    "array.random.choice", "array.random.Generator.choice", "array.random.RandomState.choice"
)
@pytest.mark.parametrize("p", [None, [0.1, 0.4, 0.2, 0.3]])
@pytest.mark.parametrize("a", [4, [1.5, 2.5, 3.5, 4.5]])
def test_choices(a: Any, p: Any) -> None:
    for source in (random, random.default_rng(5), random.RandomState(5)):
        found = source.choice(a, SIZE, p=p, chunks=33)
        assert_alike(found.compute(scheduler="sync"), np.random.RandomState(5).choice(a, SIZE, p=p))
        lone = source.choice(a, 3, replace=False, p=p).compute(scheduler="sync")
        assert len(set(lone.tolist())) == 3
        assert set(lone.tolist()) <= set(np.arange(4)[:a] if a == 4 else a)


@pytest.mark.proves(
    "array.random.permutation",
    "array.random.Generator.permutation",
    "array.random.RandomState.permutation",
)
def test_permutations() -> None:
    rows = np.arange(30).reshape(10, 3)
    for source in (random, random.default_rng(5), random.RandomState(5)):
        for given in (rows, from_numpy(rows, 4)):
            found = source.permutation(given).compute(scheduler="sync")
            theirs = np.random.default_rng(5).permutation(rows)
            assert sorted(found.tolist()) == sorted(theirs.tolist())
            assert found.tolist() != rows.tolist()
        numbers = source.permutation(20).compute(scheduler="sync")
        assert numbers.dtype == np.random.permutation(20).dtype
        assert sorted(numbers.tolist()) == list(range(20))


@pytest.mark.proves(
    "array.random.bytes", "array.random.Generator.bytes", "array.random.RandomState.bytes"
)
def test_bytes() -> None:
    for source in (random, random.default_rng(5), random.RandomState(5)):
        found = source.bytes(4000)
        assert type(found) is type(np.random.bytes(1))
        assert len(found) == 4000
        mean = np.frombuffer(found, np.uint8).mean()
        assert abs(mean - 127.5) < 4 * math.sqrt((256**2 - 1) / 12 / 4000)


@pytest.mark.proves(
    "array.random.seed",
    "array.random.get_state",
    "array.random.set_state",
    "array.random.default_rng",
    "array.random.Generator",
    "array.random.Generator.spawn",
    "array.random.RandomState",
    "array.random.RandomState.seed",
    "array.random.RandomState.get_state",
    "array.random.RandomState.set_state",
)
def test_states_begin_anew_and_go_back() -> None:
    """As NumPy's do: what is drawn then is equal, each with its own kind."""

    def drawn(source: Any) -> list[Any]:
        x = source.normal(size=5)
        return list(x.compute(scheduler="sync") if hasattr(x, "compute") else x)

    for module in (random, np.random):
        for source in (module, module.RandomState(5)):
            source.seed(7)
            state = source.get_state()
            first, second = drawn(source), drawn(source)
            assert first != second
            source.set_state(state)
            assert drawn(source) == first
            source.seed(7)
            assert drawn(source) == first
        assert drawn(module.default_rng(5)) == drawn(module.default_rng(5))
        assert drawn(module.Generator(np.random.PCG64(5))) != drawn(module.default_rng(6))
        children = [drawn(one) for one in module.default_rng(5).spawn(2)]
        assert children == [drawn(one) for one in module.default_rng(5).spawn(2)]
        assert children[0] != children[1]


@pytest.mark.proves(
    "array.random.BitGenerator",
    "array.random.MT19937",
    "array.random.PCG64",
    "array.random.PCG64DXSM",
    "array.random.Philox",
    "array.random.SFC64",
    "array.random.SeedSequence",
)
def test_what_numpy_makes_seeds_of_is_numpys_own() -> None:
    for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"):
        kind = getattr(random, name)
        assert kind is getattr(np.random, name)
        assert issubclass(kind, random.BitGenerator)
        assert random.default_rng(kind(5)).random(3).shape == (3,)
    assert random.default_rng(random.SeedSequence(5)).random(3).name == (
        random.default_rng(5).random(3).name
    )
