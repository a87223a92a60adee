"""Lists of nodes as Slurm writes them are read, and written, without asking Slurm."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.errors import InvalidArgument
from zcluster.launchers.nodelists import (
    LONGEST_NAME,
    MOST_NODES,
    compress_nodelist,
    expand_nodelist,
)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ""),
        ("node1", "node1"),
        ("a[01-03,7],b2", "a01 a02 a03 a7 b2"),  # as scontrol show hostnames answered
        ("node[01-04,7]", "node01 node02 node03 node04 node7"),
        (
            "node[1-3,07-10],gpu[01-02]-ib,a[1-2]b[3-4]",
            "node1 node2 node3 node07 node08 node09 node10 gpu01-ib gpu02-ib a1b3 a1b4 a2b3 a2b4",
        ),
        ("[8-10]", "8 9 10"),
        ("n[098-101]", "n098 n099 n100 n101"),
        ("n[08-100]", " ".join(f"n{i:02}" for i in range(8, 101))),
        ("n[5-5],n5,n[5]", "n5 n5 n5"),
        ("r13i5n0,x-1.cluster_2", "r13i5n0 x-1.cluster_2"),
        ("a[1-2][3-4]", "a13 a14 a23 a24"),
    ],
)
def test_a_list_is_its_names_in_order(text: str, names: str) -> None:
    assert expand_nodelist(text) == tuple(names.split())


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("", ""),
        ("a1 a2 a3", "a[1-3]"),  # as scontrol show hostlist answered
        ("node1", "node1"),
        ("login", "login"),
        ("node1 node2 node3 node07 node08 node09 node10", "node[1-3,07-10]"),
        ("gpu01-ib gpu02-ib", "gpu01-ib,gpu02-ib"),  # Slurm does not read gpu[01-02]-ib
        ("n3 n1 n2 n2 n07 n08 a1b1 a1b2 a2b1", "n[3,1-2,2,07-08],a1b[1-2],a2b1"),
        ("a1b3 a1b4 a2b3", "a1b[3-4],a2b3"),
        ("n3 n1 n2 n2", "n[3,1-2,2]"),
        ("n98 n99 n100", "n[98-100]"),
        ("n098 n099 n100", "n[098-100]"),
        ("n1 login n2", "n1,login,n2"),
    ],
)
def test_names_are_written_short(names: str, text: str) -> None:
    assert compress_nodelist(names.split()) == text
    assert expand_nodelist(text) == tuple(names.split())


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("node[1-3", 5, "no ']'"),
        ("node1-3]", 8, "closes nothing"),
        ("node[1-[2]]", 5, "no ']'"),
        ("node[]", 6, "nothing stands where a number"),
        ("node[1,,2]", 8, "nothing stands where a number"),
        ("node[1-3,x]", 10, "'x' stands where a number"),
        ("node[1-3-5]", 6, "'1-3-5' stands where"),
        ("node[1-]", 6, "'1-' stands where"),
        ("node[3-1]", 6, "runs backwards"),
        ("node[7-010]", 6, "not written with as many digits"),
        ("node[100-20]", 6, "not written with as many digits"),
        (",node1", 1, "no name before ','"),
        ("node1,,node2", 7, "no name before ','"),
        ("node1,", 7, "no name after ','"),
        ("node1 node2", 6, "' ' is not in names"),
        ("node1\n", 6, "is not in names"),
        ("(null)", 1, r"'\(' is not in names"),
        ("a1,-oProxy", 4, "begins with '-'"),
        ("a1,-[1-2]", 4, "begins with '-'"),
        (f"n[0-{MOST_NODES}]", 3, "more than 65536 nodes"),
        ("n[1-300][1-300]", 1, "more than 65536 nodes"),
        (f"n[0-{MOST_NODES - 1}],m", 12, "more than 65536 nodes"),
        ("n[1-" + "9" * 5000 + "]", 3, "more than 255 digits"),
        ("n" * (LONGEST_NAME + 1), 1, "more than 255 characters"),
    ],
)
def test_a_list_that_is_wrong_is_shown_where(text: str, at: int, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says) as caught:
        expand_nodelist(text)
    message = str(caught.value)
    assert f"its character {at}:" in message
    assert len(message) < 400


def test_what_is_wrong_stands_between_what_surrounds_it() -> None:
    with pytest.raises(InvalidArgument, match=r"'node\[1-3, >>> x\]' is wrong at >>>"):
        expand_nodelist("node[1-3,x]")
    long = "a" * 50 + "*" + "b" * 50
    with pytest.raises(InvalidArgument, match=r"'…a{20} >>> \*b{19}…'"):
        expand_nodelist(long)


@pytest.mark.parametrize("name", ["", "-n1", "n1,n2", "n[1]", "n 1", "nodé1", "n" * 256])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="is not the name of a node"):
        compress_nodelist(["n1", name])


def test_no_more_names_are_written_than_can_be_read() -> None:
    with pytest.raises(InvalidArgument, match="expected 65536 at most"):
        compress_nodelist(["n1"] * (MOST_NODES + 1))


_LETTERS = st.text("ab0189.-_", max_size=3)
_NAMES = st.builds(
    "{}{:0{}}{}".format, _LETTERS, st.integers(0, 12), st.integers(1, 3), _LETTERS
).filter(lambda name: not name.startswith("-"))
#: A run of names as clusters have them, so that ranges come about.
_RUNS = st.builds(
    lambda head, first, count, width: [f"n{head}{i:0{width}}" for i in range(first, first + count)],
    _LETTERS,
    st.integers(0, 110),
    st.integers(1, 15),
    st.integers(1, 4),
)


@given(st.lists(_NAMES | st.just("login"), max_size=12))
def test_any_names_come_back(names: list[str]) -> None:
    assert expand_nodelist(compress_nodelist(names)) == tuple(names)


@given(st.lists(_RUNS, max_size=4))
def test_runs_of_names_come_back_and_are_short(runs: list[list[str]]) -> None:
    names = [name for run in runs for name in run]
    text = compress_nodelist(names)
    assert expand_nodelist(text) == tuple(names)
    assert text.count(",") + text.count("-") <= 14 * len(runs)


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b-", "0"]), st.integers(0, 20), st.integers(0, 5)),
        min_size=1,
        max_size=3,
    )
)
def test_several_brackets_count_as_an_odometer(parts: list[tuple[str, int, int]]) -> None:
    text = "".join(f"{head}[{first}-{first + more}]" for head, first, more in parts)
    wheels = [[f"{head}{i}" for i in range(first, first + more + 1)] for head, first, more in parts]
    assert expand_nodelist(text) == tuple(map("".join, product(*wheels)))


@given(st.text("n01[]-,", max_size=12))
def test_any_text_is_a_list_or_an_error(text: str) -> None:
    try:
        names = expand_nodelist(text)
    except InvalidArgument:
        return
    assert expand_nodelist(compress_nodelist(names)) == names
