"""Tasks that submit tasks, share a lock and a queue, keep a state, and run beside the others."""
# mypy: ignore-errors

import os

from distributed import (
    Client,
    Event,
    Lock,
    Queue,
    Variable,
    fire_and_forget,
    get_client,
    get_worker,
    worker_client,
)


def inc(x):
    return x + 1


def subtotal(numbers):
    client = get_client()
    return sum(client.gather(client.map(inc, numbers)))


def total(groups):
    with worker_client() as client:
        return sum(client.gather(client.map(subtotal, groups)))


def deposit(amount):
    account = Variable("account")
    with Lock("account"):
        account.set(account.get() + amount)
    Queue("log").put(amount)
    return get_worker().name is not None


def announce():
    Event("done").set()


class Counter:
    n = 0

    def add(self, by):
        self.n += by
        return self.n


if __name__ == "__main__":
    client = Client(n_workers=2, threads_per_worker=2)
    print(client.submit(total, [[1, 2], [3, 4], [5, 6]]).result())

    Variable("account").set(0)
    print(all(client.gather(client.map(deposit, [10, 20, 30, 40]))))
    print(Variable("account").get(), sorted(Queue("log").get() for _ in range(4)))

    fire_and_forget(client.submit(announce))
    print(Event("done").wait(timeout=10))

    counter = client.submit(Counter, actor=True).result()
    print([future.result() for future in [counter.add(i) for i in (1, 2)]], counter.n)

    print(len(set(client.run(os.getpid).values())))
    client.publish_dataset(answer=client.submit(inc, 41))
    print(client.list_datasets(), client.get_dataset("answer").result())
    client.close()
