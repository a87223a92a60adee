"""No cluster: threads and the calling thread, a progress bar, a profile, a graph by hand."""
# mypy: ignore-errors

import dask
import dask.threaded
from dask.diagnostics import Profiler, ProgressBar


def inc(x):
    return x + 1


def add(x, y):
    return x + y


def main():
    numbers = [dask.delayed(inc)(i) for i in range(8)]
    while len(numbers) > 1:
        numbers = [dask.delayed(add)(*numbers[i : i + 2]) for i in range(0, len(numbers), 2)]
    with ProgressBar():
        print("\nsum", numbers[0].compute())
    with dask.config.set(scheduler="synchronous"), Profiler() as profiler:
        print("sum", numbers[0].compute())
    print("tasks", len(profiler.results))
    with dask.config.set({"scheduler": "threads", "num_workers": 2}):
        print(dask.compute(*[dask.delayed(inc)(i) for i in range(3)]))
    graph = {"x": 1, "y": (inc, "x"), "z": (add, "y", 10), "all": (sum, ["x", "y", "z"])}
    print(dask.threaded.get(graph, "all"), list(dask.threaded.get(graph, ["x", "z"])))
    print(dask.config.get("nothing.of.the.kind", default="not set"))


if __name__ == "__main__":
    main()
