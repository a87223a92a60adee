"""The distributions, as methods of everything that draws.

Names, parameters and defaults are NumPy's, and so are the distributions: its documentation has
their formulas.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zcluster.array.core import Array
from zcluster.array.random.building import Size
from zcluster.array.random.cells import local_generator
from zcluster.array.random.sources import Source
from zcluster.errors import InvalidArgument

__all__ = ["Distributions"]


class Distributions(Source):
    """Distributions to draw from; each method returns a lazy array.

    Notes
    -----
    All of them take

    size : int or tuple of int, optional
        The shape; by default the one that the parameters have together. Multivariate distributions
        add an axis to it.
    chunks : int, tuple or str, optional
        As for all arrays; ``"auto"`` by default.
    dtype : dtype, optional
        Of the array, if not the one that NumPy has for the distribution.

    The parameters before these are numbers, or arrays (lazy ones too) that broadcast against the
    size. Numbers and NumPy arrays that the distribution does not take are an `InvalidArgument` at
    the call; what is in a lazy array shows when it is computed.
    """

    def beta(
        self, a: Any, b: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw from the beta distribution over 0 to 1; both parameters are above 0."""
        return self._drawn("beta", (a, b), size, chunks, dtype)

    def binomial(
        self, n: Any, p: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw how many of `n` trials succeed, each with probability `p`."""
        return self._drawn("binomial", (n, p), size, chunks, dtype)

    def chisquare(
        self, df: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw sums of `df` squares of standard normal numbers."""
        return self._drawn("chisquare", (df,), size, chunks, dtype)

    def exponential(
        self, scale: Any = 1.0, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw from the exponential distribution with mean `scale`."""
        return self._drawn("exponential", (scale,), size, chunks, dtype)

    def f(
        self, dfnum: Any, dfden: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw from the F distribution with two degrees of freedom."""
        return self._drawn("f", (dfnum, dfden), size, chunks, dtype)

    def gamma(
        self,
        shape: Any,
        scale: Any = 1.0,
        size: Size = None,
        chunks: Any = "auto",
        *,
        dtype: Any = None,
    ) -> Array:
        """Draw from the gamma distribution; its mean is ``shape * scale``."""
        return self._drawn("gamma", (shape, scale), size, chunks, dtype)

    def geometric(
        self, p: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw how many trials it takes to succeed, each with probability `p`."""
        return self._drawn("geometric", (p,), size, chunks, dtype)

    def gumbel(
        self,
        loc: Any = 0.0,
        scale: Any = 1.0,
        size: Size = None,
        chunks: Any = "auto",
        *,
        dtype: Any = None,
    ) -> Array:
        """Draw from the Gumbel distribution of largest values."""
        return self._drawn("gumbel", (loc, scale), size, chunks, dtype)

    def hypergeometric(
        self,
        ngood: Any,
        nbad: Any,
        nsample: Any,
        size: Size = None,
        chunks: Any = "auto",
        *,
        dtype: Any = None,
    ) -> Array:
        """Draw how many of `nsample` are good, out of `ngood` good and `nbad` bad ones."""
        return self._drawn("hypergeometric", (ngood, nbad, nsample), size, chunks, dtype)

    def integers(
        self,
        low: Any,
        high: Any = None,
        size: Size = None,
        dtype: Any = np.int64,
        endpoint: bool = False,
        chunks: Any = "auto",
    ) -> Array:
        """Draw integers from `low` to below `high`, or from 0 to below `low`.

        With `endpoint` the end is included.
        """
        low, high = (0, low) if high is None else (low, high)
        return self._drawn_in(dtype, "integers", (low, high), size, chunks, endpoint=bool(endpoint))

    def laplace(
        self,
        loc: Any = 0.0,
        scale: Any = 1.0,
        size: Size = None,
        chunks: Any = "auto",
        *,
        dtype: Any = None,
    ) -> Array:
        """Draw from the Laplace distribution, exponential on both sides of `loc`."""
        return self._drawn("laplace", (loc, scale), size, chunks, dtype)

    def logistic(
        self,
        loc: Any = 0.0,
        scale: Any = 1.0,
        size: Size = None,
        chunks: Any = "auto",
        *,
        dtype: Any = None,
    ) -> Array:
        """Draw from the logistic distribution."""
        return self._drawn("logistic", (loc, scale), size, chunks, dtype)

    def lognormal(
        self,
        mean: Any = 0.0,
        sigma: Any = 1.0,
        size: Size = None,
        chunks: Any = "auto",
        *,
        dtype: Any = None,
    ) -> Array:
        """Draw numbers whose logarithms are normal with this mean and deviation."""
        return self._drawn("lognormal", (mean, sigma), size, chunks, dtype)

    def logseries(
        self, p: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw from the logarithmic series distribution; `p` is below 1."""
        return self._drawn("logseries", (p,), size, chunks, dtype)

    def negative_binomial(
        self, n: Any, p: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw how many trials fail before `n` succeed, each with probability `p`."""
        return self._drawn("negative_binomial", (n, p), size, chunks, dtype)

    def noncentral_chisquare(
        self, df: Any, nonc: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw sums of `df` squares of normal numbers that are off zero."""
        return self._drawn("noncentral_chisquare", (df, nonc), size, chunks, dtype)

    def noncentral_f(
        self,
        dfnum: Any,
        dfden: Any,
        nonc: Any,
        size: Size = None,
        chunks: Any = "auto",
        *,
        dtype: Any = None,
    ) -> Array:
        """Draw from the noncentral F distribution."""
        return self._drawn("noncentral_f", (dfnum, dfden, nonc), size, chunks, dtype)

    def normal(
        self,
        loc: Any = 0.0,
        scale: Any = 1.0,
        size: Size = None,
        chunks: Any = "auto",
        *,
        dtype: Any = None,
    ) -> Array:
        """Draw from the normal distribution with mean `loc` and deviation `scale`."""
        return self._drawn("normal", (loc, scale), size, chunks, dtype)

    def pareto(
        self, a: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw from the Pareto II (Lomax) distribution with exponent `a`."""
        return self._drawn("pareto", (a,), size, chunks, dtype)

    def poisson(
        self, lam: Any = 1.0, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw from the Poisson distribution with mean `lam`."""
        return self._drawn("poisson", (lam,), size, chunks, dtype)

    def power(self, a: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None) -> Array:
        """Draw from 0 to 1 with a density that goes as ``x ** (a - 1)``."""
        return self._drawn("power", (a,), size, chunks, dtype)

    def rayleigh(
        self, scale: Any = 1.0, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw from the Rayleigh distribution with mode `scale`."""
        return self._drawn("rayleigh", (scale,), size, chunks, dtype)

    def standard_cauchy(
        self, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw from the Cauchy distribution around 0."""
        return self._drawn("standard_cauchy", (), size, chunks, dtype)

    def standard_t(
        self, df: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw from Student's t distribution with `df` degrees of freedom."""
        return self._drawn("standard_t", (df,), size, chunks, dtype)

    def triangular(
        self,
        left: Any,
        mode: Any,
        right: Any,
        size: Size = None,
        chunks: Any = "auto",
        *,
        dtype: Any = None,
    ) -> Array:
        """Draw from the triangular distribution from `left` to `right`."""
        return self._drawn("triangular", (left, mode, right), size, chunks, dtype)

    def uniform(
        self,
        low: Any = 0.0,
        high: Any = 1.0,
        size: Size = None,
        chunks: Any = "auto",
        *,
        dtype: Any = None,
    ) -> Array:
        """Draw evenly from `low`, included, to `high`, excluded."""
        return self._drawn("uniform", (low, high), size, chunks, dtype)

    def vonmises(
        self, mu: Any, kappa: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw angles around `mu`, from -pi to pi, the closer the larger `kappa`."""
        return self._drawn("vonmises", (mu, kappa), size, chunks, dtype)

    def wald(
        self, mean: Any, scale: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw from the Wald (inverse Gaussian) distribution."""
        return self._drawn("wald", (mean, scale), size, chunks, dtype)

    def weibull(
        self, a: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw from the Weibull distribution with exponent `a` and scale 1."""
        return self._drawn("weibull", (a,), size, chunks, dtype)

    def zipf(self, a: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None) -> Array:
        """Draw from the Zipf distribution with exponent `a`, above 1."""
        return self._drawn("zipf", (a,), size, chunks, dtype)

    # Vectors ----------------------------------------------------------------------------------

    def dirichlet(
        self, alpha: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw vectors that add up to 1; `alpha` has a concentration for each place of them."""
        vector = _vector("dirichlet", "alpha", alpha, np.float64)
        return self._drawn(
            "dirichlet", (), size, chunks, dtype, fixed=(vector,), inner=vector.shape
        )

    def multinomial(
        self, n: Any, pvals: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw how often each of several things happens in `n` trials, with probabilities."""
        vector = _vector("multinomial", "pvals", pvals, np.float64)
        return self._drawn(
            "multinomial", (n,), size, chunks, dtype, fixed=(vector,), inner=vector.shape
        )

    def multivariate_hypergeometric(
        self,
        colors: Any,
        nsample: int,
        size: Size = None,
        method: str = "marginals",
        chunks: Any = "auto",
        *,
        dtype: Any = None,
    ) -> Array:
        """Draw how many of each color are among `nsample`, out of so many of each."""
        vector = _vector("multivariate_hypergeometric", "colors", colors, np.int64)
        return self._drawn(
            "multivariate_hypergeometric",
            (),
            size,
            chunks,
            dtype,
            fixed=(vector, nsample),
            inner=vector.shape,
            keywords={"method": method},
        )

    def multivariate_normal(
        self,
        mean: Any,
        cov: Any,
        size: Size = None,
        check_valid: str = "warn",
        tol: float = 1e-8,
        *,
        method: str = "svd",
        chunks: Any = "auto",
        dtype: Any = None,
    ) -> Array:
        """Draw normal vectors with a mean and a covariance, NumPy arrays of (k,) and (k, k).

        A matrix that is no covariance warns, raises or is taken, as `check_valid` says (``"warn"``,
        ``"raise"``, ``"ignore"``). Its root is taken here, by `method` (``"svd"``, ``"eigh"``,
        ``"cholesky"``), and travels with the tasks.
        """
        return self._multivariate_normal(mean, cov, size, check_valid, tol, method, chunks, dtype)

    # What is no array -------------------------------------------------------------------------

    def bytes(self, length: int) -> bytes:
        """Return so many random bytes, at once."""
        return local_generator(self._next_key()).bytes(length)

    def shuffle(self, x: Any, axis: int = 0) -> None:
        """Raise: arrays are never changed in their place."""
        raise NotImplementedError(
            "shuffle: arrays here are not changed in their place; use x = permutation(x), which "
            "returns another one"
        )


def _vector(name: str, parameter: str, value: Any, dtype: Any) -> Any:
    """Return a parameter that has one axis, all of which goes into every draw."""
    vector = np.array(value)
    if vector.ndim != 1:
        raise InvalidArgument(
            f"{name}: {parameter} of shape {vector.shape}; expected one axis: draw from several "
            "such distributions one by one, and stack the arrays"
        )
    return vector.astype(dtype, casting="same_kind")
