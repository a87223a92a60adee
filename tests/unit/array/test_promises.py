"""What functions of blocks promise, and what they are told."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

from zcluster.array.promises import BlockInfos, Checked
from zcluster.errors import InvalidArgument
from zcluster.protocol.tokens import tokenize

NAN = float("nan")


def first(block: Any) -> Any:
    return block[0]


class TestChecked:
    """A function whose result must have a promised shape."""

    def test_kept(self) -> None:
        """Unknown lengths promise nothing."""
        checked = Checked(first, None, False)
        assert checked(np.ones((2, 3)), promised_at=(0,), promised=(3,)).shape == (3,)
        assert checked(np.ones((2, 3)), promised_at=(0,), promised=(-1,)).shape == (3,)
        assert checked.__name__ == "first"

    @pytest.mark.parametrize(
        ("promised", "text"),
        [((2,), r"\(2,\)"), ((3, 1), r"\(3, 1\)"), ((-1, 3), r"\(\?, 3\)"), ((), r"\(\)")],
    )
    def test_broken(self, promised: Any, text: str) -> None:
        """It says what came and what was promised."""
        with pytest.raises(
            InvalidArgument, match=rf"shape \(3,\) for block \(4,\); promised was {text}:"
        ):
            Checked(first, None, False)(np.ones((2, 3)), promised_at=(4,), promised=promised)

    def test_tokens(self) -> None:
        """By the function and what it is told."""
        assert tokenize(Checked(first, "f8", False)) == tokenize(Checked(first, "f8", False))
        assert tokenize(Checked(first, "f8", False)) != tokenize(Checked(first, "f8", True))
        assert tokenize(Checked(first, "f8", False)) != tokenize(Checked(np.sin, "f8", False))


class TestInfos:
    """Where a block is."""

    def test_unknown(self) -> None:
        """Of unknown lengths the places are unknown."""
        infos = BlockInfos([(0, ((NAN, NAN), (2,)), (0, -1))], ((NAN, NAN), (2,)), "f8")
        info = pickle.loads(pickle.dumps(infos)).of((1, 0))[0]
        assert math.isnan(info["shape"][0])
        assert info["chunk-location"] == (1, 0)
        assert info["array-location"][1] == (0, 2)
        assert math.isnan(info["array-location"][0][1])

    def test_tokens(self) -> None:
        """By all that it can say."""
        made = [((0, ((2, 2),), (0,)),), ((0, ((4,),), (0,)),), ((1, ((2, 2),), (0,)),)]
        tokens = {tokenize(BlockInfos(one, ((2, 2),), "f8")) for one in made}
        assert len(tokens) == 3
        assert tokenize(BlockInfos(made[0], ((2, 2),), "f8")) in tokens
