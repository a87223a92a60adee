"""Asynchronous clients with clusters of real processes."""

from __future__ import annotations

import asyncio
import operator
import os
import time
from typing import Any

import numpy as np
import pytest

from zcluster.delayed import delayed
from zcluster.distributed import Client, as_completed, wait

pytestmark = pytest.mark.processes


async def longest_pause(done: asyncio.Event) -> float:
    """Return the longest time for which the event loop did nothing else."""
    longest, last = 0.0, time.monotonic()
    while not done.is_set():
        await asyncio.sleep(0.001)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    return longest


def test_a_client_from_its_start_to_its_end() -> None:
    async def scene(client: Any) -> None:
        futures = client.map(operator.neg, range(500))
        assert await client.gather(futures) == [-n for n in range(500)]
        assert await asyncio.gather(*futures[:50]) == [-n for n in range(50)]
        assert {await f async for f in as_completed(futures)} == {-n for n in range(500)}
        assert (await wait(futures)).not_done == set()
        large = client.submit(np.arange, 2_000_000)
        assert (await large)[-1] == 1_999_999
        assert list((await client.who_has([large])).values()) == [["local"]]
        (scattered,) = await client.scatter([np.ones(100_000)])
        assert await client.submit(np.sum, scattered) == 100_000
        assert await client.compute(delayed(operator.add)(1, 2), sync=True) == 3
        slow = client.submit(time.sleep, 0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await slow
        assert await slow is None
        loop = asyncio.get_running_loop()
        with client.get_executor() as executor:
            assert await loop.run_in_executor(executor, os.getpid) != os.getpid()

    async def main() -> float:
        done = asyncio.Event()
        pause = asyncio.ensure_future(longest_pause(done))
        async with Client(asynchronous=True, n_workers=2, threads_per_worker=1) as client:
            await client.wait_for_workers(2)
            started = time.monotonic()
            await scene(client)
            assert time.monotonic() - started < 20
        assert client.status == "closed"
        done.set()
        return await pause

    # Starting and ending the cluster takes longer than this; the loop goes on meanwhile.
    assert asyncio.run(main()) < 0.25


def test_a_blocking_client_in_a_running_loop() -> None:
    async def main() -> None:
        with Client(n_workers=1, threads_per_worker=1) as client:
            future = client.submit(operator.neg, 1)
            assert future.result() == -1
            assert client.gather(client.map(operator.neg, [1, 2])) == [-1, -2]
            assert delayed(operator.add)(1, 2).compute() == 3
            assert await client.submit(operator.neg, 3) == -3

    asyncio.run(main())
