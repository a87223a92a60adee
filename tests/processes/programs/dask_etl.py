"""Read, clean and sum files lazily; what is read is kept; one file cannot be read."""
# mypy: ignore-errors

import os
import tempfile

import dask
from dask.distributed import Client, LocalCluster


@dask.delayed
def load(path):
    with open(path) as file:
        return [int(line) for line in file]


@dask.delayed
def clean(numbers):
    return [number for number in numbers if number >= 0]


@dask.delayed(pure=True)
def total(lists):
    return sum(map(sum, lists))


def main():
    folder = tempfile.mkdtemp()
    for i in range(4):
        with open(os.path.join(folder, f"{i}.txt"), "w") as file:
            file.writelines(f"{number}\n" for number in range(-2, 10 * (i + 1)))
    paths = sorted(os.listdir(folder))

    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True)
    client = Client(cluster)
    with dask.annotate(retries=2, priority=5):
        loaded = [load(os.path.join(folder, path)) for path in paths]
    loaded = dask.persist(*loaded)
    cleaned = [clean(numbers) for numbers in loaded]
    print(len(cleaned), total(cleaned).compute())
    small, large = dask.compute(cleaned[0][-1], total(cleaned[2:]))
    print(small, large)
    report = dask.delayed(dict)([("files", len(paths)), ("sum", total(cleaned))])
    print(report.compute())
    broken = total([clean(load(os.path.join(folder, "none.txt")))])
    try:
        broken.compute()
    except FileNotFoundError as error:
        print("cannot read", os.path.basename(error.filename))
    print(dask.compute({"a": cleaned[0][0], "b": [cleaned[1][1], 5]})[0])
    client.close()
    cluster.close()


if __name__ == "__main__":
    main()
