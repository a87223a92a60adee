"""Names of NumPy's and Dask's that arrays in chunks do not have, and the way round each.

`WAYS_ROUND` is data: a sentence by name. A name leaves it when it comes to the package. `missing`
makes the error for a name that was not found, and is all that a module or class needs::

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
    "arrays are not changed in place; use {name}(x, …)": "Array.partition Array.sort",
    "an array keeps its shape; use reshape(x, shape), pad(x, widths) or a slice": "Array.resize",
    "`x += y` gives the name x to a new array": (
        "Array.__iadd__ Array.__iand__ Array.__ifloordiv__ Array.__ilshift__ Array.__imatmul__ "
        "Array.__imod__ Array.__imul__ Array.__ior__ Array.__ipow__ Array.__irshift__ "
        "Array.__isub__ Array.__itruediv__ Array.__ixor__"
    ),
    "use delete(x, index)": "Array.__delitem__",
    # --------------------------------------------------------------- spelled so
    "spelled vstack(arrays) here": "row_stack",
    "spelled blockwise(function, …) here": "atop",
    "use x.real where x.imag is zero": "real_if_close",
    "use where(mask, x, 0), or x[mask]": "mask_indices",
    # --------------------------------------------------------------- arithmetic
    "it goes block by block: map_blocks(numpy.{name}, x, dtype=…)": (
        "busday_count busday_offset datetime_as_string is_busday"
    ),
    "it goes block by block, where chunks hold whole bytes: "
    "map_blocks(numpy.{name}, x, axis=axis, chunks=…)": "packbits unpackbits",
    "use from_array(numpy.{name}(…))": "bartlett blackman hamming hanning kaiser",
    "use from_array(numpy.fft.{name}(n))": "fft.fftfreq fft.rfftfreq",
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
        "save Array.tofile"
    ),
    "numpy.{name}(path, x.compute())": "savetxt savez savez_compressed",
    "open the file with its own library and use from_array(dataset)": "from_tiledb",
    "open the file with its own library and use store(x, dataset)": "to_tiledb Array.to_tiledb",
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
    "use x.map_blocks(cupy.asarray), or the like": "Array.to_backend",
    "use x.ravel()": "Array.flat",
    "use map_blocks(lambda block: block.byteswap(), x)": "Array.byteswap",
    "x.compute() has it: x.compute().{name}(…)": (
        "Array.dump Array.dumps Array.tobytes Array.__dlpack__ Array.__dlpack_device__"
    ),
    "numpy.{name}(x.compute()), of a part such as x[:10]": "array2string array_repr array_str",
    "it is not about arrays in chunks: use numpy.{name}": (
        "base_repr binary_repr broadcast_shapes busdaycalendar common_type datetime_data "
        "errstate format_float_positional format_float_scientific get_include get_printoptions "
        "getbufsize geterr geterrcall index_exp info isscalar iterable little_endian "
        "min_scalar_type mintypecode ndarray printoptions s_ ScalarType sctypeDict "
        "set_printoptions setbufsize seterr seterrcall show_config show_runtime typecodes "
        "typename True_ False_"
    ),
    # ------------------------------------------------------------------- Dask's
    "use numpy.testing.assert_array_equal(x.compute(), y)": "assert_eq",
    "compute() does it": "optimize",
    "use zcluster.compute": "compute",
    "with the axis in one chunk: map_blocks(function, x.rechunk({{axis: -1}}))": (
        "push overlap.push"
    ),
    "blocks may be of any type that has NumPy's protocols": "register_chunk_type",
    "use apply_along_axis or map_blocks(function, x), with the axis in one chunk": "fft.fft_wrap",
    "use x.compute(), or from_delayed of parts made by pandas": "Array.to_dask_dataframe",
    "use moment(x, order)": "stats.moment",
    "scipy.stats.{name}(x.compute()), or put it together from x.mean() and x.var()": (
        "stats.chisquare stats.f_oneway stats.kurtosis stats.kurtosistest stats.normaltest "
        "stats.power_divergence stats.skew stats.skewtest stats.ttest_1samp stats.ttest_ind "
        "stats.ttest_rel"
    ),
    "use x itself": "Array.A",
    "use reshape(x, shape)": "reshape_blockwise",
    "use take(x, indices, axis)": "shuffle Array.shuffle",
    "nothing here gives this warning": "PerformanceWarning",
    # ------------------------------------------------------------------- random
    "values depend on the seed and the place alone: use random.default_rng(seed)": (
        "random.bit_generator random.spawn"
    ),
    "use random.permutation(x)": "random.permuted",
}


def _unfold(groups: Mapping[str, str]) -> Mapping[str, str]:
    table: dict[str, str] = {}
    for sentence, names in groups.items():
        for name in names.split():
            table[name] = sentence.format(name=name.rpartition(".")[2])
    return MappingProxyType(table)


#: A sentence by name: ``put``, ``fft.fftfreq``, ``random.permuted``, ``Array.tobytes``.
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
        As it would be below `zcluster.array`: ``put``, ``fft.fftfreq``, ``Array.tobytes``.

    Examples
    --------
    >>> way_round("fft.fftfreq")
    'use from_array(numpy.fft.fftfreq(n))'
    >>> way_round("random.Generator.permuted")
    'use random.permutation(x)'
    >>> way_round("fft.fft")
    'map_blocks(numpy.fft.fft, x) if it goes block by block, else numpy.fft.fft(x.compute())'
    """
    owner, _, last = name.rpartition(".")
    for other in (name, f"{owner.partition('.')[0]}.{last}"):  # a generator's method: the module's
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
    >>> print(missing("vectorize"))
    zcluster.array.vectorize is not available: use map_blocks(numpy.vectorize(function), x) [Z027]
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
