"""``zcluster simulate``, and ``python -m zcluster.testing``: many histories, and what failed."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable

import click

from zcluster.errors import InvalidArgument
from zcluster.testing.coverage import Coverage
from zcluster.testing.histories import Failure, History, live
from zcluster.testing.plans import FAULTS, Cut, Plan, draw_plan
from zcluster.testing.report import Report
from zcluster.testing.running import Order, run
from zcluster.testing.shrinking import shrink

__all__ = ["repeat_command", "simulate", "tell_failure"]

_SHRINK_SECONDS = 30.0
#: Failures that are made short and told in full; the others are named.
_TOLD = 3
_SHOW_SECONDS = 0.3


@click.command("simulate")
@click.option("--schedules", type=click.IntRange(1), help="How many.  [default: 200]")
@click.option("--seconds", type=click.FloatRange(0.1), help="For how long.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The first one.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Processes.")
@click.option("--only", metavar="FAULT", help=f"The one kind of fault: {', '.join(FAULTS)}.")
@click.option("--without", metavar="NUMBERS", help="Leave out actions, as a failing run printed.")
@click.option("--first", is_flag=True, help="Stop at the first failure.")
@click.option("--no-shrink", is_flag=True, help="Only name what failed, do not make it short.")
@click.option("--trace", is_flag=True, help="Print every message of one schedule.")
def simulate(
    schedules: int | None,
    seconds: float | None,
    seed: int,
    jobs: int,
    only: str | None,
    without: str | None,
    first: bool,
    no_shrink: bool,
    trace: bool,
) -> int:
    """Put the cores through random faults, in a pretend cluster on pretend time.

    A schedule is drawn from its seed: graphs, what is done with them, and what goes wrong. All
    that clients are told is checked, and after the last fault all must come and go. The exit
    status is 1 if anything failed; then the seeds are printed, with a command that repeats each.
    """
    try:
        cut = Cut.parse(without or "")
        draw_plan(seed, only)
    except InvalidArgument as error:
        raise click.UsageError(error.args[0]) from error
    if trace or without is not None:
        return _one(draw_plan(seed, only).after(cut), only, cut, trace)
    if schedules is None and seconds is None:
        schedules = 200
    began = time.monotonic()
    order = Order(seed, schedules, seconds, min(jobs, schedules or jobs), only, first)
    report = run(order, _shower(began) if sys.stdout.isatty() else None)
    for line in report.lines(time.monotonic() - began):
        click.echo(line)
    for number, outcome in enumerate(report.failures):
        assert outcome.failure is not None
        if number < _TOLD and not no_shrink:
            _shorten_and_tell(draw_plan(outcome.seed, only), outcome.failure, only)
        else:
            click.echo(_name(outcome.seed, outcome.failure))
    if report.failures:
        click.echo(f"\n{len(report.failures)} of {report.schedules} schedules failed")
    return 1 if report.failures else 0


def _shower(began: float) -> Callable[[Report], None]:
    """Return what shows how far a run is, in one line, a few times a second."""
    shown = began

    def show(report: Report) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown > _SHOW_SECONDS:
            shown = now
            failed = f", {len(report.failures)} failed" if report.failures else ""
            click.echo(f"\r{report.headline(now - began)}{failed}\x1b[K", nl=False)

    return show


def _one(plan: Plan, only: str | None, cut: Cut, trace: bool) -> int:
    """Live through one history, and tell how it went."""
    coverage = Coverage()
    if trace:
        history = History(plan, coverage)
        history.watcher.trace = click.echo
        outcome = live(plan, coverage, history=history)
    else:
        outcome = live(plan, coverage)
    if outcome.failure is None:
        click.echo(f"seed {plan.seed} is fine: {outcome.events} events, {outcome.seconds:.1f} s")
        return 0
    tell_failure(plan, outcome.failure, only, cut)
    return 1


def _name(seed: int, failure: Failure) -> str:
    """Return what failed in one line."""
    text = failure.text.splitlines()[0]
    return f"seed {seed} failed at {failure.at:.4f} s: {failure.kind}: {text}"


def _shorten_and_tell(plan: Plan, failure: Failure, only: str | None) -> None:
    if failure.place == "process":
        click.echo(f"\nseed {plan.seed}: {failure.text}")
        return
    cut, failure = shrink(plan, failure, _SHRINK_SECONDS)
    tell_failure(plan.after(cut), failure, only, cut)


def repeat_command(seed: int, only: str | None, cut: Cut) -> str:
    """Return the command that makes a history happen again.

    Examples
    --------
    >>> repeat_command(7, None, Cut(frozenset({1, 2})))
    'zcluster simulate --seed 7 --without 1-2'
    >>> repeat_command(7, "cut_node", Cut())
    "zcluster simulate --seed 7 --only cut_node --without ''"
    """
    words = ["zcluster", "simulate", "--seed", str(seed)]
    if only is not None:
        words += ["--only", only]
    return shlex.join([*words, "--without", str(cut)])


def tell_failure(plan: Plan, failure: Failure, only: str | None, cut: Cut) -> None:
    """Print what was wrong with a history, and the stories of the tasks it is about."""
    click.echo(f"\nseed {plan.seed} failed at {failure.at:.4f} s: {failure.kind}")
    click.echo(f"  {failure.text}")
    click.echo(f"again: {repeat_command(plan.seed, only, cut)}")
    click.echo("what happened:")
    for action in plan.actions:
        click.echo(f"  {action}")
    history = History(plan)
    again = live(plan, history=history).failure
    if again is None or again.signature != failure.signature:
        click.echo("  it does not happen again: something depends on more than the seed")
        return
    for task in failure.tasks:
        click.echo(f"the story of task {task}:")
        for when, member, text in history.world.story(task):
            click.echo(f"  {when:10.6f}  {member:<12} {text}")
    click.echo("where:")
    click.echo(failure.traceback.rstrip())
