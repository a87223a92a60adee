"""A script that ends without a word of goodbye, futures pending."""
# mypy: ignore-errors

import time

from zcluster.distributed import Client

client = Client(n_workers=2, threads_per_worker=1)
futures = client.map(time.sleep, [60] * 10)
print("last line")
