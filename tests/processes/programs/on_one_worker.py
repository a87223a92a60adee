"""A cluster and a scheduler file; tasks on a chosen worker; a task that submits a task."""
# mypy: ignore-errors

import sys

from zcluster.distributed import Client, Executor, LocalCluster, get_client, progress


def inc(x):
    return x + 1


def nested(x):
    return get_client().submit(inc, x).result()


if __name__ == "__main__":
    with LocalCluster(
        n_workers=2, threads_per_worker=1, scheduler_file="scheduler.json"
    ) as cluster:
        client = Executor(scheduler_file="scheduler.json")
        print(type(client) is Client)
        client.wait_for_workers(2, timeout=30)
        name = sorted(client.scheduler_info()["workers"])[-1]
        futures = client.map(inc, range(10), workers=name)
        progress(futures, file=sys.stderr)
        print(client.gather(futures))
        print(client.submit(inc, 41, workers=[name]).result())
        print(client.get({"x": (inc, 1), "y": (inc, "x")}, "y"))
        print(client.submit(nested, 1).result())
        client.close()
    print(cluster.status)
