"""`plan`: what a copy would do and cost; it lists, and moves nothing."""

from __future__ import annotations

import os
from collections.abc import (
    Callable,
    Mapping,
    Sequence,
)

from penstock.api.copying import RATE, own_files
from penstock.api.opening import Deliveries, folders_of, planner_of, prepared, settings_of
from penstock.api.submitting import read_asked, submission_of, submits
from penstock.core.events import Event
from penstock.core.globs import Rule, select
from penstock.core.plan import check_part_size, estimate
from penstock.core.units import parse_duration, parse_rate
from penstock.core.values import quick_value
from penstock.core.window import NS_PER_S
from penstock.costing import Costing, missing_folders
from penstock.engine.clock import Clock
from penstock.engine.planner import Selecting
from penstock.jobs import (
    read_choices,
    read_job,
    rules_of,
)
from penstock.platforms.finding import spared_by
from penstock.quotas import read_quotas, terms_of

# Bytes a second a plan reckons with where no earlier run has measured any. A guess.
ASSUMED_RATE = 50_000_000


@quick_value(frozen=True, slots=True)
class Plan:
    """What a copy would do. Sizes in bytes, times in seconds.

    `api_requests` are those the copy would send from now on, its own listings among them; `spent`
    are those this plan has sent. `binds` says whether quota or bandwidth decides the time. Not
    `rationed`: the platform has no quota, and the number is one that nothing reaches.
    """

    profile: str
    files: int
    bytes: int
    skipped: int
    failed: int
    folders: int
    api_requests: int
    proving: int
    metadata: int
    windows: int
    quota: int
    rationed: bool
    window_s: float
    seconds: float
    quota_s: float
    bandwidth_s: float
    rate: int
    rate_is_measured: bool
    binds: str
    spent: int


async def plan(
    *locations: str | os.PathLike[str],
    state: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    manifest: str | os.PathLike[str] | None = None,
    metadata: str | os.PathLike[str] | None = None,
    encoding: str | None = None,
    only: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    rules: Sequence[Rule] | None = None,
    follow: bool = False,
    keep_names: bool = False,
    min_age: float | str = 0,
    checksum: Sequence[str] = (),
    compare: str = "digest",
    on_conflict: str = "fail",
    strict: bool = False,
    concurrency: int | None = None,
    part_size: int | str | None = None,
    bwlimit: int | str | None = None,
    retries: int | None = None,
    quota_share: float | str | None = None,
    quota_store: str | None = None,
    quota_fallback: str | None = None,
    times: bool = False,
    partial_dir: str | os.PathLike[str] | None = None,
    submit: str | None = None,
    submit_complete: bool = False,
    leave_out: Sequence[str | os.PathLike[str]] = (),
    on_event: Callable[[Event], None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Plan:
    """What `copy` with the same arguments would do: it lists, and moves nothing.

    Files of the same size that the ledger does not know are reckoned to be the same; `proving`
    counts the requests that finding out takes, `metadata` those that store metadata.
    Raises as `copy` does.
    """
    environ = os.environ if environ is None else environ
    settings = settings_of(config, environ)
    choices = read_choices(compare, on_conflict, strict, checksum, part_size, partial_dir, times)
    selecting = Selecting(
        select(rules_of(rules, include, exclude)),
        follow,
        keep_names,
        parse_duration(min_age),
        own_files(folders_of(state, environ), None, leave_out),
    )
    quotas = read_quotas(quota_share, quota_store, quota_fallback)
    job = await read_job(locations, settings, manifest, encoding, only, metadata)
    folders = folders_of(state, environ)
    clock = Clock.running()
    emit = on_event or (lambda _: None)
    async with prepared(
        job,
        settings,
        folders,
        emit=emit,
        clock=clock,
        concurrency=concurrency,
        bwlimit=parse_rate(bwlimit) if bwlimit is not None else None,
        retries=retries,
        quotas=quotas,
    ) as (session, ledger, surveyor):
        traits = session.exchange.platform.traits
        if choices.part_size is not None and job.uploads:
            check_part_size(choices.part_size, traits)
        asked = read_asked(submit, job, session.exchange.platform, is_partial=submit_complete)
        costing, deliveries = Costing(session, ledger, choices), Deliveries()
        plan_all, remote_folders = await planner_of(
            job,
            settings,
            session,
            surveyor,
            selecting,
            choices,
            deliveries,
            folders=folders,
            emit=emit,
        )
        submission_requests = 0
        if submits(session, job):
            use = deliveries.use
            submission = await submission_of(
                job, session, plan_all, use, asked, emit, strict=strict
            )
            submission_requests = await submission.cost()
        deliveries.use(costing.deliver)
        await plan_all()
        known = await ledger.fact(session.exchange.platform.endpoint, RATE)
        exchange = session.exchange
        spent = exchange.total.api_requests
        # The copy looks and lists as this plan did, but for what is remembered now.
        again = spent - exchange.once + (spared_by(exchange.platform) or 0)
    cost = costing.cost
    new = missing_folders(costing.new_folders, remote_folders)
    folder_requests = len(new) * traits.requests_per_folder
    metadata_requests = -(-costing.attached // traits.attached_at_once) + submission_requests
    requests = cost.api_requests + folder_requests + metadata_requests + again
    requests += costing.pages_to_prove()
    terms = terms_of(session.profile, traits)
    quota, window_s = terms.top, terms.window_ns / NS_PER_S
    rate = int(known) if known is not None else ASSUMED_RATE
    rate = min(rate, parse_rate(bwlimit)) if bwlimit is not None else rate
    time = estimate(requests, cost.bytes, quota=quota, window_s=window_s, rate=rate)
    return Plan(
        profile=job.profile,
        files=cost.files,
        bytes=cost.bytes,
        skipped=cost.skipped,
        failed=cost.failed,
        folders=len(new),
        api_requests=requests,
        proving=costing.proving,
        metadata=metadata_requests,
        windows=time.windows,
        quota=quota,
        rationed=traits.rationed or session.profile.quota is not None,
        window_s=window_s,
        seconds=time.seconds,
        quota_s=time.quota_s,
        bandwidth_s=time.bandwidth_s,
        rate=rate,
        rate_is_measured=known is not None,
        binds=time.binds,
        spent=spent,
    )
