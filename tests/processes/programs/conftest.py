"""Programs as users write them: run by test_acceptance.py and dask_names, never collected."""

collect_ignore_glob = ["*.py"]
