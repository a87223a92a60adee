"""Names of NumPy's and Dask's that arrays in chunks do not have, and the way round each.

`WAYS_ROUND` is data: a sentence by name. What stands in it may be there all the same, or come: the
table is looked into only for a name that was not found. `missing` makes the error that says so, and
is all that a module or class needs::

    def __getattr__(name):
        raise missing(f"linalg.{name}")

Names of NumPy that are not in the table get a sentence that holds for any function; names that
NumPy does not have either are plain attribute errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from zcluster.errors import NotAvailable

__all__ = ["WAYS_ROUND", "missing", "way_round"]

_FUNCTION = "map_blocks(numpy.{name}, x) if it goes block by block, else numpy.{name}(x.compute())"

#: What a sentence holds for, by sentence; ``{name}`` stands for the name itself.
_GROUPS = {
    # ----------------------------------------------------------------- in place
    "arrays are not changed in place; use where(mask, values, x)": "copyto place putmask",
    "arrays are not changed in place; use where(isin(arange(x.size), indices), value, x.ravel())": (
        "put Array.put"
    ),
    "arrays are not changed in place; use where(eye(n, dtype=bool), value, x)": "fill_diagonal",
    "arrays are not changed in place; with one index for each line: "
    "where(arange(x.shape[-1]) == indices, values, x)": "put_along_axis",
    "arrays are not changed in place; use full_like(x, value)": "Array.fill",
    "arrays are not changed in place; use random.permutation(x)": "random.shuffle",
    "an array keeps its shape; use reshape(x, shape), pad(x, widths) or a slice": (
        "resize Array.resize"
    ),
    "`x += y` gives the name x to a new array": (
        "Array.__iadd__ Array.__iand__ Array.__ifloordiv__ Array.__ilshift__ Array.__imatmul__ "
        "Array.__imod__ Array.__imul__ Array.__ior__ Array.__ipow__ Array.__irshift__ "
        "Array.__isub__ Array.__itruediv__ Array.__ixor__"
    ),
    "use delete(x, index)": "Array.__delitem__",
    # ------------------------------------------------------------------ sorting
    "with the axis in one chunk it goes block by block: "
    "map_blocks(numpy.{name}, x.rechunk({{axis: -1}}), axis=axis)": (
        "sort argsort sort_complex unwrap"
    ),
    "use topk(x, k) or argtopk(x, k), or bring the axis into one chunk: "
    "map_blocks(numpy.{name}, x.rechunk({{axis: -1}}), k, axis=axis)": "partition argpartition",
    "numpy.lexsort([key.compute() for key in keys]), then take": "lexsort",
    "with the axis in one chunk on both sides: "
    "map_blocks(numpy.take_along_axis, x, indices, axis=axis)": "take_along_axis",
    # --------------------------------------------------------------- spelled so
    "spelled arccos(x) here": "acos",
    "spelled arccosh(x) here": "acosh",
    "spelled arcsin(x) here": "asin",
    "spelled arcsinh(x) here": "asinh",
    "spelled arctan(x) here": "atan",
    "spelled arctan2(y, x) here": "atan2",
    "spelled arctanh(x) here": "atanh",
    "spelled power(x, y) here": "pow",
    "spelled invert(x) here": "bitwise_invert bitwise_not",
    "spelled left_shift(x, n) here": "bitwise_left_shift",
    "spelled right_shift(x, n) here": "bitwise_right_shift",
    "spelled conj(x) here": "conjugate Array.conjugate",
    "spelled max(x) here": "amax",
    "spelled min(x) here": "amin",
    "spelled concatenate(arrays) here": "concat",
    "spelled vstack(arrays) here": "row_stack",
    "spelled cumsum(x) here": "cumulative_sum",
    "spelled cumprod(x) here": "cumulative_prod",
    "spelled transpose(x, axes) here": "permute_dims",
    "spelled swapaxes(x, -1, -2) here": "matrix_transpose linalg.matrix_transpose Array.mT",
    "spelled blockwise(function, …) here": "atop",
    "use x.size, or x.shape[axis]": "size",
    "use x.copy()": "copy",
    "use x.astype(dtype)": "astype",
    "use x.real where x.imag is zero": "real_if_close",
    "use eye(n)": "identity",
    "use diag(x.ravel())": "diagflat",
    "use stack(arrays, axis=1)": "column_stack",
    "use slices: [x[start:stop] for start, stop in …]": "array_split dsplit hsplit split vsplit",
    "use [x[i] for i in range(len(x))]": "unstack",
    "use (x == y).all()": "array_equal array_equiv",
    "use (x == value).any()": "Array.__contains__",
    "index one axis after the other: x[rows][:, columns]": "ix_",
    "use diagonal(x), or where(eye(n, dtype=bool), …)": "diag_indices diag_indices_from",
    "use where(mask, x, 0), or x[mask]": "mask_indices",
    "use unique(x) with return_index, return_inverse, return_counts": (
        "unique_all unique_counts unique_inverse unique_values"
    ),
    "use unique(x), then of it x[isin(x, y)]": "intersect1d",
    "use unique(x), then of it x[~isin(x, y)]": "setdiff1d",
    "use unique(x) and unique(y), then concatenate([x[~isin(x, y)], y[~isin(y, x)]])": "setxor1d",
    "use numpy.linspace(lowest, highest, bins + 1), of x.min() and x.max()": "histogram_bin_edges",
    # --------------------------------------------------------------- arithmetic
    "it goes block by block: map_blocks(numpy.{name}, x, y, dtype=x.dtype)": "gcd heaviside lcm",
    "it goes block by block: map_blocks(numpy.{name}, x, dtype=…)": (
        "bitwise_count busday_count busday_offset datetime_as_string is_busday isnat nan_to_num"
    ),
    "it goes block by block: map_blocks(numpy.interp, x, xp, fp), xp and fp of NumPy": "interp",
    "it goes block by block, where chunks hold whole bytes: "
    "map_blocks(numpy.{name}, x, axis=axis, chunks=…)": "packbits unpackbits",
    "use map_overlap(numpy.{name}, x, kernel, mode='same', depth=len(kernel) // 2, boundary=0)": (
        "convolve correlate"
    ),
    "use tensordot(x, y, axes=(-1, -1))": "inner",
    "use (conj(x) * y).sum(axis=-1)": "vecdot linalg.vecdot",
    "use matmul(x, y[..., None])[..., 0]": "matvec",
    "use matmul(conj(x)[..., None, :], y)[..., 0, :]": "vecmat",
    "use (x[:, None, :, None] * y[None, :, None, :]), then reshape(…)": "kron",
    "put it together from components: stack([a[1] * b[2] - a[2] * b[1], …])": (
        "cross linalg.cross"
    ),
    "use ((y[1:] + y[:-1]) / 2 * diff(x)).sum()": "trapezoid",
    "use base ** linspace(start, stop, n)": "logspace",
    "use exp(linspace(start, stop, n)), of the logarithms of both": "geomspace",
    "use from_array(numpy.{name}(…))": (
        "arange array bartlett blackman empty eye fromfunction full hamming hanning indices kaiser "
        "linspace ones tri tril_indices triu_indices zeros"
    ),
    "use from_array(numpy.fft.{name}(n))": "fft.fftfreq fft.rfftfreq",
    "use x[:, None] ** arange(n)[::-1]": "vander",
    "numpy.trim_zeros(x.compute()), or a slice from nonzero(x)": "trim_zeros",
    "give it numpy.broadcast_to(0.0, x.shape) for each array": "einsum_path",
    # -------------------------------------------------------------- polynomials
    "coefficients are few: use numpy.{name} on NumPy's arrays": (
        "poly poly1d polyadd polyder polydiv polyint polymul polysub roots"
    ),
    "it goes block by block: map_blocks(lambda block: numpy.polyval(p, block), x)": "polyval",
    "use linalg.lstsq(x[:, None] ** arange(degree + 1), y)": "polyfit",
    # -------------------------------------------------------- matrices, records
    "use arrays of two axes, with @ and block(…)": "asmatrix bmat matrix",
    "use a dtype with fields: x['field']": "recarray",
    # -------------------------------------------------------------------- files
    "use from_array(numpy.load(path, mmap_mode='r'))": "load",
    "use from_array(numpy.memmap(path, dtype, 'r', shape=shape))": "fromfile memmap",
    "use from_array(numpy.{name}(…)); for many files, from_delayed and concatenate": (
        "from_dlpack frombuffer fromiter fromregex fromstring genfromtxt loadtxt"
    ),
    "use store(x, numpy.lib.format.open_memmap(path, 'w+', x.dtype, x.shape)), block by block": (
        "save to_npy_stack Array.tofile"
    ),
    "numpy.{name}(path, x.compute())": "savetxt savez savez_compressed",
    "open the file with its own library and use from_array(dataset)": "from_tiledb from_zarr",
    "open the file with its own library and use store(x, dataset)": (
        "to_hdf5 to_tiledb to_zarr Array.to_hdf5 Array.to_tiledb Array.to_zarr"
    ),
    # ------------------------------------------------------------ memory, blocks
    "blocks have a memory order each: map_blocks(numpy.{name}, x)": (
        "asarray_chkfinite ascontiguousarray asfortranarray require"
    ),
    "an array in chunks has no memory of its own; ask the blocks: map_blocks(function, x)": (
        "isfortran may_share_memory shares_memory Array.base Array.ctypes Array.data Array.flags "
        "Array.getfield Array.setfield Array.setflags Array.strides"
    ),
    "use sliding_window_view, or slices: blocks share no memory": "lib.stride_tricks.as_strided",
    "go through the blocks: x.blocks": "flatiter ndenumerate ndindex nditer nested_iters",
    "use map_blocks(numpy.vectorize(function), x)": "vectorize",
    "use broadcast_arrays(x, y)": "broadcast",
    "use concatenate(arrays), stack(arrays) and arange(n)": "c_ r_",
    "use meshgrid(…), indices(shape) or arange(n)": "mgrid ogrid",
    "use x.map_blocks(cupy.asarray), or the like": "Array.to_backend Array.to_device",
    "blocks are where they are computed": "Array.device",
    "use x.ravel()": "Array.flat",
    "use map_blocks(lambda block: block.byteswap(), x)": "Array.byteswap",
    "x.compute() has it: x.compute().{name}(…)": (
        "Array.dump Array.dumps Array.item Array.tobytes Array.tolist Array.__dlpack__ "
        "Array.__dlpack_device__"
    ),
    "numpy.{name}(x.compute()), of a part such as x[:10]": "array2string array_repr array_str",
    "it is not about arrays in chunks: use numpy.{name}": (
        "base_repr binary_repr broadcast_shapes busdaycalendar can_cast common_type datetime_data "
        "dtype errstate finfo format_float_positional format_float_scientific get_include "
        "get_printoptions getbufsize geterr geterrcall iinfo index_exp info isdtype isscalar "
        "issubdtype iterable little_endian min_scalar_type mintypecode ndarray printoptions "
        "promote_types s_ ScalarType sctypeDict set_printoptions setbufsize seterr seterrcall "
        "show_config show_runtime typecodes typename ufunc True_ False_"
    ),
    "it is numpy.linalg.LinAlgError": "linalg.LinAlgError",
    "use numpy.issubdtype(x.dtype, numpy.complexfloating)": "iscomplexobj isrealobj",
    # ------------------------------------------------------------------- Dask's
    "use apply_gufunc(function, signature, x)": "as_gufunc gufunc",
    "use numpy.testing.assert_array_equal(x.compute(), y)": "assert_eq",
    "compute() does it": "optimize",
    "use zcluster.compute": "compute",
    "with the axis in one chunk: map_blocks(function, x.rechunk({{axis: -1}}))": (
        "push overlap.push reduction"
    ),
    "blocks may be of any type that has NumPy's protocols": "register_chunk_type",
    "use apply_along_axis or map_blocks(function, x), with the axis in one chunk": "fft.fft_wrap",
    "use x.compute(), or from_delayed of parts made by pandas": "Array.to_dask_dataframe",
    "use ((x - x.mean()) ** order).mean()": "moment Array.moment stats.moment",
    "scipy.stats.{name}(x.compute()), or put it together from x.mean() and x.var()": (
        "stats.chisquare stats.f_oneway stats.kurtosis stats.kurtosistest stats.normaltest "
        "stats.power_divergence stats.skew stats.skewtest stats.ttest_1samp stats.ttest_ind "
        "stats.ttest_rel"
    ),
    "scipy.linalg.lu(x.compute())": "linalg.lu",
    "use linalg.solve(a, b)": "linalg.solve_triangular",
    "use linalg.svd(x)": "linalg.svd_compressed",
    "use linalg.qr(x)": "linalg.tsqr",
    "use x itself": "Array.A",
    "use x.blocks": "Array.partitions",
    "use x.rechunk(y.chunks)": "unify_chunks",
    "use isnan(x)": "isnull",
    "use ~isnan(x)": "notnull",
    "use reshape(x, (-1, step)), then a reduction over axis 1": "coarsen",
    "use reshape(x, shape)": "reshape_blockwise",
    "use take(x, indices, axis)": "shuffle Array.shuffle",
    "use take(x.ravel(), numpy.ravel_multi_index(indices, x.shape))": "Array.vindex",
    "use map_overlap(function, x, depth, boundary)": (
        "overlap.map_overlap overlap.overlap overlap.trim_internal overlap.trim_overlap"
    ),
    "it is lib.stride_tricks.sliding_window_view(x, shape)": "overlap.sliding_window_view",
    "use map_blocks(function, x), with the core axes in one chunk": "apply_gufunc",
    "with the axis in one chunk: map_blocks(function, x.rechunk({{axis: -1}}), chunks=…), with a "
    "function that uses numpy.partition or numpy.argpartition": (
        "topk argtopk Array.topk Array.argtopk"
    ),
    "use concatenate([from_array(numpy.load(path, mmap_mode='r')) for path in paths])": (
        "from_npy_stack"
    ),
    "use map_blocks(function, x), with a function that writes its block": "store Array.store",
    "use persist: lengths are known then": "Array.compute_chunk_sizes",
    "notebooks show x; its picture is zcluster.array.drawing.svg(x.chunks)": "Array.to_svg",
    "nothing here gives this warning": "PerformanceWarning",
    # ----------------------------------------------------------- linear algebra
    "small ones: numpy.linalg.{name}(x.compute()); many, with each in one chunk: "
    "map_blocks(numpy.linalg.{name}, x, drop_axis=(-2, -1))": (
        "linalg.cond linalg.det linalg.matrix_rank linalg.slogdet"
    ),
    "small ones: numpy.linalg.{name}(x.compute()); of large ones the first few: "
    "linalg.svd_compressed(x, k)": "linalg.eig linalg.eigh linalg.eigvals linalg.eigvalsh",
    "put it together: u, s, v = linalg.svd(x), then (v.T / s) @ u.T": "linalg.pinv",
    "use linalg.svd(x)[1]": "linalg.svdvals",
    "use x @ y @ z, in the order that makes the smallest arrays": "linalg.multi_dot",
    "use x @ x, as often as needed": "linalg.matrix_power",
    "use linalg.norm(x, ord, axis)": "linalg.matrix_norm linalg.vector_norm",
    "use reshape(x, …), and linalg.inv or linalg.solve": "linalg.tensorinv linalg.tensorsolve",
    "spelled {name}(…) here, without linalg": (
        "linalg.diagonal linalg.matmul linalg.outer linalg.tensordot linalg.trace"
    ),
    "use linalg.tsqr(x), with one chunk across the columns": "linalg.sfqr",
    # ------------------------------------------------------------------- random
    "values depend on the seed and the place alone: use random.default_rng(seed)": (
        "random.BitGenerator random.MT19937 random.PCG64 random.PCG64DXSM random.Philox "
        "random.SFC64 random.SeedSequence random.bit_generator random.get_state random.set_state "
        "random.spawn"
    ),
    "use random.random(size)": "random.rand random.random_sample random.ranf random.sample",
    "use random.standard_normal(size)": "random.randn",
    "use random.permutation(x)": "random.permuted",
    "use random.randint(0, 256, size, dtype='u1')": "random.bytes",
    "use random.randint(low, high + 1, size)": "random.random_integers",
    "use random.randint(0, 2**31, size)": "random.tomaxint",
}


def _unfold(groups: Mapping[str, str]) -> Mapping[str, str]:
    table: dict[str, str] = {}
    for sentence, names in groups.items():
        for name in names.split():
            table[name] = sentence.format(name=name.rpartition(".")[2])
    return MappingProxyType(table)


#: A sentence by name: ``put``, ``linalg.eig``, ``random.shuffle``, ``Array.tolist``.
WAYS_ROUND: Mapping[str, str] = _unfold(_GROUPS)

#: Whose names those of a module or class here are.
_OWNERS: Mapping[str, Any] = MappingProxyType(
    {
        "": np,
        "Array": np.ndarray,
        "fft": np.fft,
        "lib.stride_tricks": np.lib.stride_tricks,
        "linalg": np.linalg,
        "ma": np.ma,
        "random": np.random,
        "random.Generator": np.random.Generator,
        "random.RandomState": np.random.RandomState,
    }
)


def way_round(name: str) -> str:
    """Return what to do instead of using a name that there is not.

    Parameters
    ----------
    name : str
        As it would be below `zcluster.array`: ``put``, ``linalg.eig``, ``Array.tolist``.

    Examples
    --------
    >>> way_round("linalg.svdvals")
    'use linalg.svd(x)[1]'
    >>> way_round("random.Generator.shuffle")
    'arrays are not changed in place; use random.permutation(x)'
    >>> way_round("nanargmin")
    'map_blocks(numpy.nanargmin, x) if it goes block by block, else numpy.nanargmin(x.compute())'
    """
    owner, _, last = name.rpartition(".")
    # A generator's method is the module's function; an array's often is, too.
    for other in (name, f"{owner.partition('.')[0]}.{last}", last if owner == "Array" else name):
        if other in WAYS_ROUND:
            return WAYS_ROUND[other]
    if owner == "Array":
        return (
            f"x.compute() may have it, or its blocks: x.map_blocks(lambda block: block.{last}(…))"
        )
    if owner.startswith("random"):
        return f"from_array(numpy.random.default_rng(seed).{last}(…))"
    if isinstance(getattr(_OWNERS.get(owner), last, None), type):
        return f"use numpy.{name}"
    return _FUNCTION.format(name=name)


def missing(name: str) -> AttributeError:
    """Return the error to raise for a name that there is not.

    Parameters
    ----------
    name : str
        As it would be below `zcluster.array`, as for `way_round`.

    Returns
    -------
    NotAvailable or AttributeError
        The first, which is a `NotImplementedError` too, if NumPy or Dask has the name.

    Examples
    --------
    >>> print(missing("put_along"))
    module 'zcluster.array' has no attribute 'put_along'
    >>> print(missing("identity"))
    zcluster.array.identity is not available: use eye(n) [Z027]
    """
    owner, _, last = name.rpartition(".")
    is_known = name in WAYS_ROUND or last in dir(_OWNERS.get(owner))
    if is_known and not last.startswith("_"):
        return NotAvailable(f"zcluster.array.{name} is not available: {way_round(name)}")
    kind = owner.rpartition(".")[2]
    if kind[:1].isupper():
        return AttributeError(f"{kind!r} object has no attribute {last!r}")
    module = f"zcluster.array.{owner}" if owner else "zcluster.array"
    return AttributeError(f"module {module!r} has no attribute {last!r}")
