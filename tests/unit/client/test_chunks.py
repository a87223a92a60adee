"""What workers call for executors and pools."""

from __future__ import annotations

from zcluster.client.chunks import run_call, run_chunk


def test_any_keyword_reaches_the_function() -> None:
    def f(*args: int, **kwargs: int) -> tuple[tuple[int, ...], dict[str, int]]:
        return args, kwargs

    assert run_call(f, (1,), {"key": 2, "function": 3, "self": 4}) == (
        (1,),
        {"key": 2, "function": 3, "self": 4},
    )


def test_a_chunk_is_called_row_by_row() -> None:
    assert run_chunk(pow, [(2, 3), (2, 3, 5)]) == [8, 3]
    assert run_chunk(pow, []) == []
