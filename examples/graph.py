"""A graph written by hand: a plain dict, which works on a cluster as it does without.

Run it with ``python examples/graph.py``.
"""

from __future__ import annotations

from operator import add

from zcluster.distributed import Client

WORDS = "it was the best of times it was the worst of times"


def count(words: list[str], word: str) -> int:
    return words.count(word)


#: Keys stand for what their tasks return; a list of keys for a list of that. What equals no key
#: is a literal.
GRAPH = {
    "words": (str.split, WORDS),
    "n-times": (count, "words", "times"),
    "n-it": (count, "words", "it"),
    "sum": (add, "n-times", "n-it"),
    "all": (sorted, ["sum", "n-times", "n-it"]),
}


def main() -> None:
    with Client(n_workers=2, threads_per_worker=1) as client:
        total, both = client.get(GRAPH, ["sum", "all"])
        print(f"'times' and 'it' come {total} times")
        print(both)


if __name__ == "__main__":
    main()
