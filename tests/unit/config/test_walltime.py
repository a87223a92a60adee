"""When a job ends is known from its environment, or else from what scontrol prints."""

from __future__ import annotations

import time
from datetime import UTC, timedelta, timezone

import pytest

from zcluster.config.walltime import job_end, parse_job_end
from zcluster.errors import ClusterError

RECORD = """\
JobId=30060 JobName=calpi EndTime=2001-01-01T00:00:00
   UserId=alice(10001) GroupId=staff(20001) MCS_label=N/A
   Priority=4382 Nice=0 Account=staff QOS=normal
   JobState=RUNNING Reason=None Dependency=(null)
   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0
   RunTime=00:42:08 TimeLimit=16:00:00 TimeMin=N/A
   SubmitTime=2026-10-04T13:43:23 EligibleTime=2026-10-04T13:43:23
   AccrueTime=2026-10-04T13:43:23
   StartTime=2026-10-04T13:43:23 EndTime=2026-10-05T05:43:23 Deadline=N/A
   SuspendTime=None SecsPreSuspend=0 LastSchedEval=2026-10-04T13:43:23 Scheduler=Backfill
   Partition=debug AllocNode:Sid=head:1234
   NodeList=node[1-2]
   Command=/home/alice/job.slurm
"""
END = 1_791_179_003  # 2026-10-05T05:43:23 in UTC


def asked_for_nothing(job: str) -> str:
    raise AssertionError(f"asked for job {job}")


def test_the_variable_is_believed_first() -> None:
    environment = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1772203535"}
    assert job_end(environment, asked_for_nothing) == 1772203535.0


def test_outside_a_job_nothing_ends_and_nobody_is_asked() -> None:
    assert job_end({}, asked_for_nothing) is None
    assert job_end({"SLURM_JOB_END_TIME": "1772203535"}, asked_for_nothing) is None
    assert job_end({"SLURM_CONF": "/etc/slurm/slurm.conf", "SLURM_JOB_ID": ""}) is None


@pytest.mark.parametrize("name", ["SLURM_JOB_ID", "SLURM_JOBID"])
def test_an_older_slurm_is_asked(name: str) -> None:
    asked = []

    def show_job(job: str) -> str:
        asked.append(job)
        return RECORD

    expected = time.mktime((2026, 10, 5, 5, 43, 23, 0, 0, -1))  # in the zone of this machine
    assert job_end({name: "30060"}, show_job) == expected
    assert asked == ["30060"]
    assert job_end({name: "30060"}) is None


def test_zero_is_not_known() -> None:
    assert job_end({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "0"}) is None


@pytest.mark.parametrize("text", ["soon", "-1", "2026-10-05T05:43:23", "1e9"])
def test_a_variable_that_is_no_time_is_told(text: str) -> None:
    with pytest.raises(ClusterError, match=f"SLURM_JOB_END_TIME is '{text}'.*seconds since"):
        job_end({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": text})


def test_the_time_is_that_of_a_zone_and_not_of_the_name_of_the_job() -> None:
    utc = parse_job_end(RECORD, "30060", UTC)
    east = parse_job_end(RECORD, "30060", timezone(timedelta(hours=2)))
    assert utc == END
    assert east == END - 7200
    assert time.gmtime(utc)[:6] == (2026, 10, 5, 5, 43, 23)


def test_the_record_of_the_job_is_found_among_those_of_an_array() -> None:
    other = RECORD.replace("30060", "30061").replace("05T05:43", "05T07:43")
    both = f"{other}\n{RECORD}"
    assert parse_job_end(both, "30060", UTC) == END
    assert parse_job_end(both, "30061", UTC) == END + 7200
    with pytest.raises(ClusterError, match="has no record of it"):
        parse_job_end(both, "3006", UTC)


@pytest.mark.parametrize("word", ["Unknown", "None", "N/A"])
def test_a_job_without_a_limit_or_a_start_has_no_end(word: str) -> None:
    assert parse_job_end(RECORD.replace("2026-10-05T05:43:23", word), "30060", UTC) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no record of it but ''"),
        ("slurm_load_jobs error: Invalid job id specified\n", "but 'slurm_load_jobs error"),
        (RECORD.replace("StartTime", "Start"), "has no line 'StartTime=… EndTime=…'"),
        (RECORD.replace("\n  ", ""), "without -o"),
        (RECORD.replace("2026-10-05T05:43:23", "05:43"), "ends at '05:43'.*SLURM_TIME_FORMAT"),
        (RECORD.replace("2026-10-05T05:43:23", "Tomorr 05:43"), "ends at 'Tomorr'"),
        (RECORD.replace("2026-10-05T05:43:23", "1791179003"), "ends at '1791179003'"),
    ],
)
def test_an_answer_that_says_nothing_is_told(text: str, says: str) -> None:
    with pytest.raises(ClusterError, match=says):
        parse_job_end(text, "30060", UTC)
