"""Count words of several texts with futures, the longest one first."""
# mypy: ignore-errors

from dask.distributed import Client, as_completed, progress, wait

TEXTS = {
    "one": "the cat sat on the mat and the dog sat on the cat",
    "two": "a cat and a dog",
    "three": "the end",
}


def count(text):
    words = {}
    for word in text.split():
        words[word] = words.get(word, 0) + 1
    return words


def merge(parts):
    total = {}
    for part in parts:
        for word, times in part.items():
            total[word] = total.get(word, 0) + times
    return total


def top(counts, n):
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n]


if __name__ == "__main__":
    client = Client(n_workers=2, threads_per_worker=1)
    texts = client.scatter(TEXTS)
    counts = {name: client.submit(count, future) for name, future in texts.items()}
    progress(list(counts.values()))
    wait(list(counts.values()))
    total = client.submit(merge, list(counts.values()), priority=10)
    print(client.submit(top, total, 3).result())
    sizes = {future.key: len(future.result()) for future in as_completed(counts.values())}
    print([sizes[counts[name].key] for name in TEXTS])
    failed = client.submit(count, None)
    print(failed.status in ("pending", "error"), type(failed.exception()).__name__)
    client.close()
