"""Kills workers and nannies once a second while graphs are computed; checks every answer.

    python benchmarks/chaos.py --seconds 600 --workers 4 --rate 1

Runs real commands: a scheduler, three nannies, of which one is connected through a relay, and two
clients, of which one is. Besides the kills, processes are frozen for up to twenty seconds (the
scheduler for up to five), connections are cut in one or both directions, delayed and reset. The
first node's store is small, so that it spills, and if root runs this, its disk is filled at times.

It passes (exit status 0) if every round is right, or ended with an error that says that a task's
workers were killed; no round takes longer than its bound; all workers are back within thirty
seconds of the last fault; and nothing is left over. With ``--system dask`` the same graphs run on
dask.distributed while its workers are killed, in the interpreter that ``ZCLUSTER_PEERS_PYTHON``
names; then the exit status is 0 whatever becomes of them.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from chaos_rounds import Tally, run_rounds

#: Seconds within which all workers must be back after the last fault.
BACK = 30.0


def run_threads(clients: Sequence[Any], seed: int, seconds: float, explain: Any) -> Tally:
    """Run rounds on all clients at once for a while."""
    tally = Tally()
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(
            target=run_rounds,
            args=(client, tally, seed + number, lambda: time.monotonic() > end, explain),
        )
        for number, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


def report(name: str, tally: Tally, seconds: float) -> float:
    """Print what became of the rounds; return tasks a second."""
    rate = tally.tasks / seconds
    print(
        f"{name}: {tally.rounds} rounds, {tally.right} right, {tally.tasks} tasks, "
        f"{rate:.0f} tasks/s, slowest round {tally.slowest:.1f} s"
    )
    for kind, count in tally.permitted.items():
        print(f"  permitted: {count} x {kind}")
    for sentence in tally.wrong:
        print(f"  WRONG: {sentence}")
    return rate


# --------------------------------------------------------------------------------- zcluster


def explain(client: Any, futures: Sequence[Any]) -> str:
    """Say why futures are late: what the scheduler knows of them, and all stacks."""
    lines = [f"{len(futures)} are late"]
    for future in futures[:3]:
        try:
            lines.append(f"    {client.explain(future)}")
            lines += [f"      {line}" for line in client.story(future)[-12:]]
        except Exception as error:  # the very thing that is wrong may be that nobody answers
            lines.append(f"    {future.key}: {type(error).__name__}: {error}")
    try:
        lines.append(f"    {client.overview()}")
    except Exception as error:
        lines.append(f"    no overview: {type(error).__name__}: {error}")
    return "\n".join(lines)


def wait_capacity(address: str, names: Sequence[str]) -> float:
    """Return the seconds until every worker has run a task; more than `BACK` is too long."""
    from zcluster.distributed import Client

    began = time.monotonic()
    with Client(address, insecure=True) as client:
        client.wait_for_workers(len(names), 3 * BACK)
        for name in names:
            client.submit(os.getpid, workers=name, pure=False).result(3 * BACK)
    return time.monotonic() - began


def chaos(seconds: float, workers: int, rate: float, seed: int) -> int:
    """Run zcluster; return the exit status."""
    from chaos_cluster import VARIABLE, Cluster, Faults, leftovers

    from zcluster.distributed import Client

    folder = Path(tempfile.mkdtemp(prefix="cz-", dir="/tmp"))  # short: ipc paths end at 107 bytes
    mark = os.environ[VARIABLE] = uuid.uuid4().hex
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    bad: list[str] = []
    with ExitStack() as stack:
        cluster = Cluster(folder, workers)
        stack.callback(lambda: bad.extend(cluster.close()))
        wait_capacity(cluster.address, cluster.names)
        clients = [
            stack.enter_context(Client(address, insecure=True))
            for address in (cluster.address, cluster.client_relay.address)
        ]
        calm = max(3.0, min(10.0, seconds / 6))
        before = report("no faults", run_threads(clients, seed + 1000, calm, explain), calm)
        counted = clients[0].statistics()["finished"]
        faults = Faults(cluster, seed, rate)
        faults.start()
        began = time.monotonic()
        tally = run_threads(clients, seed, seconds, explain)
        took = time.monotonic() - began
        faults.stop()
        after = report("faults", tally, took)
        again = clients[0].statistics()["finished"] - counted
        print(f"  reported {again} results of {tally.tasks} tasks (dropped ones may not run)")
        print("  " + ", ".join(f"{count} {what}" for what, count in sorted(faults.counts.items())))
        bad += tally.wrong
        back = wait_capacity(cluster.address, cluster.names)
        print(f"all {len(cluster.names)} workers back {back:.1f} s after the last fault")
        print(f"throughput with faults / without: {after / before:.2f}")
        if back > BACK:
            bad.append(f"full capacity took {back:.1f} s, expected at most {BACK:g}")
        last = run_threads(clients, seed + 2000, 2.0, explain)
        bad += last.wrong
        if bad:
            print(cluster.errors()[-4000:])
    bad += leftovers(mark, folder)
    for sentence in bad:
        print(f"BAD: {sentence.splitlines()[0]}")
    print("failed" if bad else "passed")
    return 1 if bad else 0


# ------------------------------------------------------------------------------------- dask


def chaos_dask(seconds: float, workers: int, rate: float, seed: int) -> int:
    """Run dask.distributed, whose workers are killed, and print what is left."""
    import importlib

    distributed = importlib.import_module("distributed")
    counts: Counter[str] = Counter()
    chance = random.Random(seed)
    with (
        distributed.LocalCluster(
            workers, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        calm = max(3.0, min(10.0, seconds / 6))
        tell: Callable[..., str] = lambda _, futures: f"{len(futures)} are late"  # noqa: E731
        before = report("no faults", run_threads([client], seed + 1000, calm, tell), calm)
        stop = threading.Event()

        def kill() -> None:
            while not stop.wait(1 / rate):
                pids = [nanny.pid for nanny in list(cluster.workers.values()) if nanny.pid]
                if pids:
                    os.kill(chance.choice(pids), signal.SIGKILL)
                    counts["worker killed"] += 1

        thread = threading.Thread(target=kill)
        thread.start()
        began = time.monotonic()
        tally = run_threads([client], seed, seconds, tell)
        took = time.monotonic() - began
        stop.set()
        thread.join()
        after = report("faults", tally, took)
        print(f"  {dict(counts)}")
        end = time.monotonic() + BACK
        while time.monotonic() < end and len(client.scheduler_info()["workers"]) < workers:
            time.sleep(0.2)
        left = len(client.scheduler_info()["workers"])
        print(f"{left} of {workers} workers {BACK - max(0.0, end - time.monotonic()):.1f} s later")
        print(f"throughput with faults / without: {after / before:.2f}")
    return 0


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=4, help="4 or more")
    parser.add_argument("--rate", type=float, default=1.0, help="kills a second")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--system", choices=["zcluster", "dask"], default="zcluster")
    parser.add_argument("--quick", action="store_true", help="ten seconds: does it work at all?")
    options = parser.parse_args()
    if options.workers < 4 or options.rate <= 0:
        parser.error("expected 4 workers or more, and a rate above zero")
    seed = random.randrange(10**6) if options.seed is None else options.seed
    seconds = 10.0 if options.quick else options.seconds
    print(f"{options.system}: {seconds:g} s, {options.rate:g} kills/s, --seed {seed}", flush=True)
    if options.system == "zcluster":
        return chaos(seconds, options.workers, options.rate, seed)
    peers = os.environ.get("ZCLUSTER_PEERS_PYTHON", "")
    if peers and os.path.abspath(peers) != os.path.abspath(sys.executable):
        if shutil.which(peers) is None:
            parser.error(f"ZCLUSTER_PEERS_PYTHON names {peers!r}, which is no program")
        return subprocess.run([peers, *sys.argv, "--seed", str(seed)], check=False).returncode
    return chaos_dask(seconds, options.workers, options.rate, seed)


if __name__ == "__main__":
    sys.exit(main())
