"""Collect the public names of NumPy and of dask.array into ``array_names.toml``.

By hand, where both are installed, when a new NumPy or Dask is out::

    python docs/collect_array_names.py

The keys are the names as they are here, and as tests are marked with them: ``array.sum`` is
`numpy.sum`, `dask.array.sum` and `zcluster.array.sum`; ``array.Array.sum`` is the method. The
values say who has the name. `generate_array.py` makes a page of it.
"""

from __future__ import annotations

import importlib
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).parent / "array_names.toml"

#: Sections of the page, with the modules and classes that their names are taken from.
SECTIONS = {
    "Functions": ("array.", "numpy", "dask.array"),
    "Constants, types and helpers": ("array.", "numpy", "dask.array"),
    "Methods and attributes": ("array.Array.", "numpy:ndarray", "dask.array:Array"),
    "Operators and protocols": ("array.Array.", "numpy:ndarray", "dask.array:Array"),
    "linalg": ("array.linalg.", "numpy.linalg", "dask.array.linalg"),
    "fft": ("array.fft.", "numpy.fft", "dask.array.fft"),
    "random": ("array.random.", "numpy.random", "dask.array.random"),
    "random.Generator": (
        "array.random.Generator.",
        "numpy.random:Generator",
        "dask.array.random:Generator",
    ),
    "random.RandomState": (
        "array.random.RandomState.",
        "numpy.random:RandomState",
        "dask.array.random:RandomState",
    ),
    "lib.stride_tricks": (
        "array.lib.stride_tricks.",
        "numpy.lib.stride_tricks",
        "dask.array.lib.stride_tricks",
    ),
    "ma": ("array.ma.", "numpy.ma", "dask.array.ma"),
    "overlap": ("array.overlap.", None, "dask.array.overlap"),
    "stats": ("array.stats.", None, "dask.array.stats"),
}

#: Of no use outside of the class or library, or left from Python 2.
_INNER = (
    "__annotate__ __annotations__ __array_finalize__ __array_interface__ __array_struct__ "
    "__array_wrap__ __buffer__ __class_getitem__ __copy__ __deepcopy__ __dict__ __div__ "
    "__firstlineno__ __long__ __module__ __nonzero__ __rdiv__ __setstate__ __slots__ "
    "__static_attributes__ __weakref__ annotations array_expr_enabled compression_level "
    "compression_matrix get_bit_generator normalize_masked_array set_bit_generator test "
    # of the module `overlap`
    "add_dummy_padding boundaries coerce_boundary coerce_depth coerce_depth_type constant "
    "ensure_minimum_chunksize nearest overlap_internal periodic reflect"
)

#: Every object has them; arrays have them element by element.
_COMPARISONS = "__eq__ __ge__ __gt__ __le__ __lt__ __ne__"


HEADER = """\
# The public names of NumPy and of dask.array, and who has them. docs/collect_array_names.py
# collects them, docs/generate_array.py makes a page of them.
#
# A name is a key, as it stands in `@pytest.mark.proves("array.sum")`. Whether it is done is not
# said here: a test that carries the name, compares with NumPy and passed says so.
"""


def collect(libraries: Iterable[str] = ("numpy", "dask")) -> dict[str, dict[str, list[str]]]:
    """Return by section and name which libraries have it."""
    found: dict[str, dict[str, list[str]]] = {}
    for title, (prefix, *sources) in SECTIONS.items():
        section: dict[str, list[str]] = {}
        for source in sources:
            library = "" if source is None else source.partition(".")[0].partition(":")[0]
            if library in libraries:
                assert source is not None
                for name in _names(title, source):
                    section.setdefault(f"{prefix}{name}", []).append(library)
        if title == "ma":  # NumPy has 200 more, for masks alone
            section = {name: where for name, where in section.items() if "dask" in where}
        found[title] = dict(sorted(section.items(), key=lambda item: item[0].lower()))
    return found


def _names(title: str, source: str) -> Iterator[str]:
    module, _, kind = source.partition(":")
    owner: Any = importlib.import_module(module)
    if kind:
        owner = getattr(owner, kind)
    for name in dir(owner):
        if _is_wanted(title, owner, name, getattr(owner, name, None)):
            yield name


def _is_wanted(title: str, owner: Any, name: str, value: Any) -> bool:
    if title == "Operators and protocols":
        if not name.startswith("__") or name in _INNER.split():
            return False
        # Not `hasattr(object, name)`: `object` is a type, and types have `__or__`.
        return name in _COMPARISONS.split() or name not in dir(object)
    if name.startswith("_") or isinstance(value, types.ModuleType) or name in _INNER.split():
        return False
    if isinstance(owner, type):
        return True
    exported = getattr(owner, "__all__", None)
    if owner.__name__ == "numpy.random":
        return True
    if exported is not None and name not in exported:
        return False
    if exported is None and not _is_own(owner, name, value):
        return False
    if title == "Functions":
        return callable(value) and not isinstance(value, type)
    if title == "Constants, types and helpers":
        return (not callable(value) or isinstance(value, type)) and not _is_scalar_type(value)
    return callable(value)


def _is_own(owner: Any, name: str, value: Any) -> bool:
    """Tell what a module of Dask's offers from what it only uses itself."""
    if getattr(value, "__module__", "") == owner.__name__:
        return True
    try:
        same = importlib.import_module("numpy" + owner.__name__.removeprefix("dask.array"))
    except ModuleNotFoundError:
        return False
    return hasattr(same, name)


def _is_scalar_type(value: Any) -> bool:
    """Tell names of dtypes: whoever has a dtype of NumPy's needs no other."""
    generic = importlib.import_module("numpy").generic
    return isinstance(value, type) and issubclass(value, generic)


def write(path: Path = OUTPUT) -> None:
    """Write the list."""
    lines = [HEADER]
    libraries = ("numpy", "dask")
    lines.append("[versions]")
    for library in libraries:
        lines.append(f'{library} = "{importlib.import_module(library).__version__}"')
    for title, section in collect(libraries).items():
        lines += ["", f'["{title}"]']
        lines += [f'"{name}" = "{" ".join(where)}"' for name, where in section.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
