"""When the Slurm job ends that this process runs in.

``SLURM_JOB_END_TIME`` says so in a job of a recent Slurm; an older one is asked with
``scontrol show job``. The variable is as old as the job: a limit that was changed while the job
ran is only in the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo

from zcluster.errors import ClusterError

__all__ = ["job_end", "parse_job_end"]

#: The times stand on a line of their own: what a user has called the job is not taken for them.
_TIMES = re.compile(r"^ *StartTime=\S+ EndTime=(\S+)", re.MULTILINE)
_NEVER = ("Unknown", "None", "N/A")


def job_end(
    environment: Mapping[str, str], show_job: Callable[[str], str] | None = None
) -> float | None:
    """Return when the job ends that a process runs in.

    Parameters
    ----------
    environment : mapping
        The variables of the process, as `os.environ`.
    show_job : callable, optional
        Returns what ``scontrol show job`` prints for the id of a job, with
        ``SLURM_TIME_FORMAT=standard``; asked only if no variable says when.

    Returns
    -------
    float or None
        Seconds since the epoch; None outside Slurm, without a limit, or if nobody knows.

    Raises
    ------
    ClusterError
        If the variable or the answer cannot be understood.

    Examples
    --------
    >>> job_end({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1772203535"})
    1772203535.0
    >>> job_end({}) is None
    True
    """
    job = environment.get("SLURM_JOB_ID") or environment.get("SLURM_JOBID")
    if not job:
        return None
    end = environment.get("SLURM_JOB_END_TIME")
    if end:
        if not (end.isascii() and end.isdigit()):
            raise ClusterError(
                f"SLURM_JOB_END_TIME is {end!r}, expected seconds since the epoch; unset it, and "
                "Slurm is asked"
            )
        return float(end) or None  # Slurm's 0 is "not known"
    return None if show_job is None else parse_job_end(show_job(job), job)


def parse_job_end(text: str, job: str, timezone: tzinfo | None = None) -> float | None:
    """Return when a job ends by what ``scontrol show job`` prints, None if it does not know.

    Parameters
    ----------
    text : str
        What it prints: one record, or one for each job of an array.
    job : str
        The id of the job.
    timezone : tzinfo, optional
        The one that Slurm prints times in; by default that of this machine.

    Returns
    -------
    float or None
        Seconds since the epoch.

    Raises
    ------
    ClusterError
        If there is no such job, or no time that can be read.
    """
    records = re.split(r"^(?=JobId=)", text, flags=re.MULTILINE)
    record = next((part for part in records if part.startswith(f"JobId={job} ")), None)
    if record is None:
        found = text.strip().partition("\n")[0][:80]
        raise ClusterError(
            f"scontrol show job {job} has no record of it but {found!r}, expected one that begins "
            f"with 'JobId={job} '; try the command by hand"
        )
    match = _TIMES.search(record)
    if match is None:
        raise ClusterError(
            f"the record of job {job} has no line 'StartTime=… EndTime=…'; expected what "
            "scontrol show job prints, without -o"
        )
    end = match[1]
    if end in _NEVER:
        return None
    try:
        moment = datetime.strptime(end, "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        raise ClusterError(
            f"job {job} ends at {end!r}, expected a time such as 2026-01-31T23:59:00; "
            "call scontrol with SLURM_TIME_FORMAT=standard"
        ) from None
    return (moment if timezone is None else moment.replace(tzinfo=timezone)).timestamp()
