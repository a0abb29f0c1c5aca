"""Sentences and figures for people: how far it is, what came of it, what a plan says. Pure text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.cli.terminal import safe_line
from penstock.core.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.cli.watching import Tally
    from penstock.core.actionreport import ActionLine, ActionSummary
    from penstock.core.report import Line, Summary

CARRY_ON = "run the same command again to carry on"


def counted(number: int, one: str, several: str | None = None) -> str:
    """`1 file`, `1,200 files`."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def how_far(tally: Tally) -> str:
    """One line of progress; what `waiting` says is not part of it."""
    known = "" if tally.listed else " so far"
    words = [f"{tally.done:,} of {counted(tally.files, tally.thing)}{known}"]
    if tally.thing == "file":
        words.append(f"{format_size(tally.seen_size)} of {format_size(tally.size)}{known}")
    elif tally.accepted:
        words.append(f"{tally.accepted:,} under way")
    rate = tally.rate()
    if rate >= 1:
        words.append(f"{format_size(int(rate))}/s")
    left_s = tally.left_s()
    if left_s and tally.final is None:
        words.append(f"about {format_duration(left_s)} left")
    failed = tally.summary.failed - tally.unfinished
    if failed:
        words.append(f"{failed:,} failed")
    return " · ".join(words)


def waiting(tally: Tally) -> str:
    """How long the quota makes the run wait, where it does for a second or more."""
    wait_s = tally.wait_s()
    if wait_s < 1:
        return ""
    return f"waiting {format_duration(wait_s)} for the quota of {tally.wait_profile}"


def of_line(line: Line) -> str:
    """One transfer's end in one line."""
    text = f"{line.status:<10} {safe_line(line.source)} → {safe_line(line.destination)}"
    if line.size is not None:
        text += f" ({format_size(line.size)})"
    if line.error is not None:
        return f"{text}: {safe_line(line.error['message'])}"
    return f"{text}: {safe_line(line.reason)}" if line.reason else text


def of_submission(submission: Mapping[str, Any]) -> str:
    """What became of a submission, in a line."""
    rows, left = submission["rows"], submission["left"]
    told = (
        f"submitted {counted(rows, 'row')} as {submission['id']}" if rows else "submitted nothing"
    )
    if not rows and not left:
        told += " new: all of it is submitted already"
    return told + (f"; {counted(left, 'row')} left" if left else "")


def of_action(line: ActionLine) -> str:
    """One action's end in one line."""
    text = f"{line.status:<10} {safe_line(line.name or line.id)} ({safe_line(line.id)})"
    states = " → ".join(safe_line(state) for state in (line.before, line.after) if state)
    text += f": {line.action}" + (f", {states}" if states else "")
    return f"{text}: {safe_line(line.reason)}" if line.reason else text


def of_actions(summary: ActionSummary) -> Iterator[str]:
    """A run of actions in a few lines."""
    counts = ", ".join(
        f"{getattr(summary, status):,} {status}"
        for status in ("settled", "accepted", "skipped", "unknown", "failed")
    )
    yield f"{summary.action}: {counts}; in {format_duration(summary.seconds)}"
    for profile, requests in summary.api_requests.items():
        refused = summary.rejected_by_quota.get(profile, 0)
        yield (
            f"{profile}: {counted(requests, 'API request')}, {refused:,} refused by the quota, "
            f"waited {format_duration(summary.waited_for_quota_s)} for it; "
            f"{summary.queue_full:,} refused by a full queue"
        )


def of_summary(summary: Summary, reasons: Mapping[str, int], unfinished: int = 0) -> Iterator[str]:
    """A run in a few lines; `unfinished` are those of the failed that a stop left."""
    skipped = f"{summary.skipped:,} skipped"
    if reasons:
        kinds = sorted(reasons.items(), key=lambda pair: -pair[1])[:4]
        skipped += f" ({', '.join(f'{safe_line(kind)} {number:,}' for kind, number in kinds)})"
    left = f", {unfinished:,} not finished" if unfinished else ""
    yield (
        f"{summary.verified:,} verified, {summary.unverified:,} unverified, {skipped}, "
        f"{summary.failed - unfinished:,} failed{left}; {format_size(summary.bytes)} in "
        f"{format_duration(summary.seconds)}"
    )
    for profile, requests in summary.api_requests.items():
        refused = summary.rejected_by_quota.get(profile, 0)
        yield (
            f"{profile}: {counted(requests, 'API request')}, {refused:,} refused by the quota, "
            f"waited {format_duration(summary.waited_for_quota_s)} for it"
        )
    if summary.submission is not None:
        yield of_submission(summary.submission)
    if summary.unverified:
        yield "unverified: complete by length, and nothing that was offered proves more"


def of_failures(failures: list[Line], failed: int, report: str | None) -> Iterator[str]:
    """The failed files that are named, and where the others are."""
    for line in failures:
        why = line.error["message"] if line.error is not None else line.reason or "no reason given"
        named = why.startswith(f"{line.source} ")  # the reason may begin with the name itself
        yield safe_line(why) if named else f"{safe_line(line.source)}: {safe_line(why)}"
    more = failed - len(failures)
    if more > 0:
        where = f"; all are in {safe_line(report)}" if report else ""
        yield f"… and {counted(more, 'more failed file')}{where}"


def of_plan(plan: Mapping[str, object], profile: str) -> Iterator[str]:
    """A plan, its fields by name, as a table of two columns."""

    def number(name: str) -> int:
        value = plan[name]
        assert isinstance(value, int)
        return value

    def real(name: str) -> float:
        value = plan[name]
        assert isinstance(value, int | float)
        return float(value)

    moves = [counted(number("files"), "file"), format_size(number("bytes"))]
    if number("folders"):
        moves.append(f"{counted(number('folders'), 'folder')} to make")
    yield f"to move     {', '.join(moves)}"
    yield f"skipped     {number('skipped'):,} (there already, or left out)"
    if number("failed"):
        yield f"would fail  {number('failed'):,} (conflicts, too large, or cannot be read)"
    parts = []
    if number("proving"):
        parts.append(f"{number('proving'):,} to prove files that are already there")
    if number("metadata"):
        parts.append(f"{number('metadata'):,} to store metadata")
    told = [f"of these {', '.join(parts)}"] if parts else []
    if number("spent"):
        told.append(f"this plan took {number('spent'):,}")
    beside = f" ({'; '.join(told)})" if told else ""
    yield f"requests    {counted(number('api_requests'), 'API request')} to {profile}{beside}"
    share = f"{number('quota'):,}/{format_duration(real('window_s'))}"
    windows = f"{counted(number('windows'), 'window')} of {share}"
    yield f"quota       {windows if plan['rationed'] else 'no quota'}"
    yield f"time        about {format_duration(real('seconds'))}"
    known = "as measured before" if plan["rate_is_measured"] else "an assumption, never measured"
    rate = f"{format_size(number('rate'))}/s ({known})"
    if not plan["rationed"]:
        yield f"binds       bandwidth, and what the server bears; {rate}"
    elif plan["binds"] == "quota":
        yield (
            f"binds       the quota ({format_duration(real('quota_s'))}); bandwidth would allow "
            f"{format_duration(real('bandwidth_s'))} at {rate}"
        )
    else:
        yield (
            f"binds       bandwidth ({format_duration(real('bandwidth_s'))} at {rate}); the quota "
            f"would allow {format_duration(real('quota_s'))}"
        )
