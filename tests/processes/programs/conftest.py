"""Programs as users write them: they are run by test_acceptance.py, never imported or collected."""

collect_ignore_glob = ["*.py"]
