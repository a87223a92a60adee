"""`unique` by the names of the array API."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import uniques
from zcluster.array.core import from_numpy

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=10, deadline=None)


@pytest.mark.proves(
    "array.unique_all", "array.unique_counts", "array.unique_inverse", "array.unique_values"
)
@given(data=st.data())
@FAST
def test_equals(data: st.DataObject, arrays: Any) -> None:
    """Fields have the names and the values of NumPy's."""
    a, chunks = data.draw(arrays(dtypes=("i8", "?"), ndim=(1, 2), length=(1, 6)))
    x = from_numpy(a, chunks)
    values = uniques.unique_values(x).compute(scheduler="sync")
    np.testing.assert_array_equal(values, np.sort(np.unique_values(a)))  # in no order there
    for name in ("unique_all", "unique_counts", "unique_inverse"):
        found, expected = getattr(uniques, name)(x), getattr(np, name)(a)
        assert found._fields == expected._fields
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.compute(scheduler="sync"), other)


def test_a_nan_is_like_no_other() -> None:
    """As the standard has it; of floats, which is which is not known here."""
    x = from_numpy(np.array([np.nan, 1.0, np.nan]), 2)
    assert uniques.unique_counts(x).counts.compute(scheduler="sync").tolist() == [1, 1, 1]
    with pytest.raises(NotImplementedError, match="equal_nan"):
        uniques.unique_inverse(x)
