"""Climb to the top of a hill: new points are tried as results come in."""
# mypy: ignore-errors

import random

from dask.distributed import Client, as_completed


def height(point):
    x, y = point
    return point, -((x - 3) ** 2) - (y + 1) ** 2


def main():
    random.seed(0)
    with Client(n_workers=2, threads_per_worker=2) as client:
        best_point, best = None, float("-inf")
        futures = client.map(
            height, [(random.uniform(-9, 9), random.uniform(-9, 9)) for _ in range(10)]
        )
        seq = as_completed(futures)
        tried = 0
        for future in seq:
            point, value = future.result()
            tried += 1
            if value > best:
                best_point, best = point, value
            if tried + seq.count() < 400:
                x, y = best_point
                step = 4 * 0.97**tried
                near = (x + random.uniform(-step, step), y + random.uniform(-step, step))
                seq.add(client.submit(height, near))
        print("tried", tried)
        print("top near", round(best_point[0]), round(best_point[1]))


if __name__ == "__main__":
    main()
