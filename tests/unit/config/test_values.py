"""Which value counts: places in their order, `set` and its end, threads, what is wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from zcluster import config
from zcluster.config import sources
from zcluster.config.defaults import KEYS
from zcluster.errors import InvalidArgument


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_every_key_has_its_default(key: object) -> None:
    assert config.get(key.name) == key.default  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", ["worker.store-share", "worker.store_share", "Worker__Store_Share"])
def test_spellings_of_a_key_are_one(key: str) -> None:
    assert config.get(key) == 0.7
    assert config.config[key] == 0.7


def test_places_count_in_their_order(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "named.toml"
    (folder / "a.toml").write_text("[worker]\nthreads = 1\n")
    config.refresh()
    assert config.get("worker.threads") == 1
    (folder / "b.toml").write_text("[worker]\nthreads = 2\n")
    config.refresh()
    assert config.get("worker.threads") == 2
    named.write_text("worker.threads = 3\n")
    monkeypatch.setenv("ZCLUSTER_CONFIG", str(named))
    config.refresh()
    assert config.get("worker.threads") == 3
    monkeypatch.setenv("ZCLUSTER_WORKER__THREADS", "4")
    config.refresh()
    assert config.get("worker.threads") == 4
    with config.set(worker__threads=5):
        assert config.get("worker.threads") == 5
        found = config.places("worker.threads")
    assert [place.value for place in found] == [None, 1, 2, 3, 4, 5]
    assert [Path(place.source).name for place in found[1:4]] == ["a.toml", "b.toml", "named.toml"]
    assert found[4].source == "environment variable ZCLUSTER_WORKER__THREADS"


def test_a_named_folder_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.toml").write_text("progress = false\n")
    monkeypatch.setenv("ZCLUSTER_CONFIG", str(tmp_path))
    config.refresh()
    assert config.get("progress") is False


def test_files_are_read_at_the_first_get_only(folder: Path) -> None:
    assert config.get("num-workers", 7) == 7
    (folder / "late.toml").write_text("num-workers = 3\n")
    assert config.get("num-workers", 7) == 7
    config.refresh()
    assert config.get("num-workers", 7) == 3


def test_a_default_stands_in_for_what_nobody_set() -> None:
    assert config.get("scheduler") is None
    assert config.get("scheduler", "threads") == "threads"
    assert config.get("no.such.key", 3) == 3
    assert config.get("client.timeout", 3) == 30.0  # it has a default of its own


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(InvalidArgument, match=r"no key 'client.timout'.*'client.timeout'"):
        config.get("client.timout")
    with pytest.raises(KeyError):
        config.config["client.timout"]


def test_a_section_is_a_dictionary() -> None:
    with config.set({"worker": {"threads": 2}}):
        found = config.get("worker")
    assert found["threads"] == 2
    assert found["memory-limit"] == "auto"


def test_set_lasts_until_the_end_of_its_block_or_for_good() -> None:
    with config.set({"output.prefix": False}, client__timeout=1) as inside:
        assert config.get("output.prefix") is False
        assert inside["client"]["timeout"] == 1.0
        config.set(progress=False)
    assert config.get("output.prefix") is True
    assert config.get("client.timeout") == 30.0
    assert config.get("progress") is False
    config.refresh()
    assert config.get("progress") == "auto"


def test_a_block_ends_with_an_exception_too() -> None:
    with pytest.raises(ZeroDivisionError), config.set(progress=False):
        1 / 0  # noqa: B018
    assert config.get("progress") == "auto"


def test_blocks_that_end_in_any_order_take_away_their_own_values() -> None:
    """As those of two threads do."""
    first = config.set(worker__threads=1, num_workers=1)
    second = config.set(worker__threads=2)
    first.__exit__(None, None, None)
    assert (config.get("worker.threads"), config.get("num-workers")) == (2, None)
    second.__exit__(None, None, None)
    assert config.get("worker.threads") is None


def test_many_sets_take_no_room() -> None:
    from zcluster.config.values import _state

    with config.set(progress=False):
        for number in range(1, 300):
            config.set(worker__threads=number)
        assert len(_state.layers) < 5
        assert config.get("worker.threads") == 299
    assert config.get("progress") == "auto"
    assert config.get("worker.threads") == 299


def test_threads_set_and_read_at_the_same_time() -> None:
    wrong: list[object] = []
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        for _ in range(200):
            with config.set({"num-workers": number}):
                found = config.get("num-workers")
                if found not in (1, 2, 3, 4):
                    wrong.append(found)

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert config.get("num-workers") is None


def test_a_wrong_value_changes_nothing() -> None:
    with pytest.raises(InvalidArgument, match=r"config.set sets num-workers to 'two', expected a"):
        config.set({"progress": False, "num_workers": "two"})
    assert config.get("progress") == "auto"


def test_what_is_no_mapping_cannot_be_set() -> None:
    with pytest.raises(InvalidArgument, match=r"config.set was given 5, expected a dict"):
        config.set(5)  # type: ignore[arg-type]


def test_an_unknown_key_is_warned_of_and_kept() -> None:
    with pytest.warns(UserWarning, match=r"sets worker.thread, .*did you mean worker.threads\?"):
        config.set({"worker.thread": 2})
    assert config.get("worker.thread") == 2


def test_keys_of_dasks_own_configuration_are_warned_of_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "_warned", set())
    with pytest.warns(UserWarning, match="sets distributed.worker.memory.target; keys of dask's"):
        config.set({"distributed.worker.memory": {"target": 0.6, "spill": 0.7}})
    config.set({"dataframe.query-planning": True, "distributed.worker.daemon": False})
    assert config.get("distributed.worker.memory.spill") == 0.7


def test_what_is_popped_is_set_nowhere_any_more(folder: Path) -> None:
    (folder / "a.toml").write_text("[worker]\nthreads = 1\n")
    config.refresh()
    with config.set(worker__threads=2), config.set(worker__threads=3):
        assert config.pop("worker.threads") == 3
        assert config.get("worker.threads") is None
    assert config.get("worker.threads") is None
    assert config.pop("no.such.key", 5) == 5
    with pytest.raises(KeyError, match=r"no key 'no.such.key'"):
        config.pop("no.such.key")
    config.refresh()
    assert config.get("worker.threads") == 1


def test_packages_may_keep_their_configuration_here() -> None:
    config.update_defaults({"of-a-package": {"size": 3}})
    assert config.get("of_a_package.size") == 3
    with config.set({"of-a-package.size": 4}):  # without a warning
        assert [place.value for place in config.places("of-a-package.size")] == [3, 4]
    config.refresh()
    assert config.pop("of-a-package.size") == 3
    assert config.get("of-a-package.size", None) is None
    with pytest.raises(InvalidArgument, match=r"worker.threads, a key of zcluster's own"):
        config.update_defaults({"worker": {"threads": 3}})


def test_a_program_may_set_a_runner_itself() -> None:
    with config.set(scheduler=test_a_section_is_a_dictionary):
        assert config.get("scheduler") is test_a_section_is_a_dictionary
    with pytest.raises(InvalidArgument, match="'sync', 'threads' or 'processes', or none"):
        config.set(scheduler=3)


def test_the_view_is_what_counts() -> None:
    assert len(config.config) == len(KEYS)
    assert dict(config.config)["client.unrunnable"] == "warn"
    assert "progress" in repr(config.config)


def test_collect_uses_nothing_of_what_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[output]\nrate = '1KiB'\n")
    found = config.collect([path], {"ZCLUSTER_OUTPUT__PREFIX": "0", "PATH": "/bin"})
    assert found == {"output": {"rate": 1024, "prefix": False}}
    assert config.get("output.rate") == 64 * 1024


def test_the_first_import_reads_nothing_and_is_light() -> None:
    code = (
        "import sys, zcluster.config\n"
        "print({'zmq', 'numpy', 'msgspec', 'asyncio', 'tomllib', 'difflib', 'click'}"
        " & {*sys.modules})\n"
        "from zcluster.config.values import _state; print(_state.sources)"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30
    )
    assert run.stdout == "set()\nNone\n", run.stderr
