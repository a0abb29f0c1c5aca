"""Which part of a quota is spent, where it is counted, and what is spent of it by now.

Reads what a command says about quotas, chooses the store, and looks into it for people. What may
be sent is the limiter's to decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from penstock.config import Profile
from penstock.core.errors import UsageError, redacted
from penstock.core.traits import Traits
from penstock.core.units import parse_share
from penstock.core.values import quick_value
from penstock.core.window import NS_PER_S, Terms, ns
from penstock.engine.clock import Clock
from penstock.engine.files import hop
from penstock.engine.slots import SlotStore, SqliteSlotStore, key_of, on_network
from penstock.engine.slots_seen import Seen, Spender, seen_in_file

_REDIS = re.compile(r"(redis|rediss|unix)://", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FALLBACK = re.compile(r"share=(.+)")


@quick_value(frozen=True, slots=True)
class Quotas:
    """What a command says about quotas; None: what the profile, or nobody, says.

    `store` is a Redis or a file, `fallback` the share to spend where a Redis is lost.
    """

    share: float | None = None
    store: str | None = None
    fallback: float | None = None

    def of(self, profile: Profile) -> Profile:
        """The profile with the share that the command gives it."""
        return profile if self.share is None else replace(profile, share=self.share)


def read_quotas(
    share: float | str | None = None, store: str | None = None, fallback: str | None = None
) -> Quotas:
    """The options as given. Raises `UsageError` for what is no share, no store, no fallback."""
    if store is not None and not _REDIS.match(store):
        if _SCHEME.match(store):
            raise UsageError(
                f"the quota store {redacted(store)} is of no kind that is known: give a file, or "
                "redis://HOST:PORT/0 (rediss:// with TLS)"
            )
        if not store or Path(store).is_dir():
            raise UsageError(f"the quota store {store!r} is a folder; name a file in it")
    rest = None
    if fallback is not None:
        match = _FALLBACK.fullmatch(fallback)
        if match is None:
            raise UsageError(f"the quota fallback {fallback!r} is none: write share=1/4")
        if store is None or not _REDIS.match(store):
            raise UsageError(
                "a quota fallback is for when a Redis is lost: give one with --quota-store redis://…"
            )
        rest = parse_share(match[1])
    return Quotas(None if share is None else parse_share(share), store, rest)


async def open_store(quotas: Quotas, folder: Path, tell: Callable[[str], None]) -> SlotStore:
    """The store that counts; by default a file in `folder`. Its owner closes it.

    `tell` is given what the user should know of it. Raises `UsageError` for a Redis that cannot
    be asked at all.
    """
    if quotas.store is None or not _REDIS.match(quotas.store):
        path = _file(quotas, folder)
        if await hop(on_network, path.parent):
            tell(
                f"the quota is counted in {path}, on a network file system: on this machine only; "
                "several machines share it by --quota-store redis://… or --quota-share 1/N"
            )
        return SqliteSlotStore(path)
    # Whoever counts in a file needs neither.
    from penstock.engine.slots_redis import RedisSlotStore  # noqa: PLC0415

    shared = RedisSlotStore(quotas.store)
    if quotas.fallback is None:
        return shared
    from penstock.engine.slots_fallback import FallbackSlotStore  # noqa: PLC0415

    local = SqliteSlotStore(_file(Quotas(), folder))
    return FallbackSlotStore(shared, local, quotas.fallback, tell)


def _file(quotas: Quotas, folder: Path) -> Path:
    return folder / "quota.sqlite3" if quotas.store is None else Path(quotas.store)


@quick_value(frozen=True, slots=True)
class QuotaUse:
    """What is spent of a profile's quota, and what is left: a look, no promise. Times in seconds.

    `limit` is the N in force: the share, less what refusals and other users of the key took. Of
    it `spent` are answered and held for `window_s`, `in_flight` not answered, `left` could be sent
    now. Not `rationed`: the platform has no quota, and the number is one that nothing reaches.
    `gate` is what the platform's own count leaves, None where it says nothing. `next_free_s`
    is how long until more may be sent, None where nothing is held or an answer must come first.
    `closed_until` and `token_refused_at` are epoch seconds. `spenders` have the quota open now.
    """

    profile: str
    endpoint: str
    quota: int
    rationed: bool
    window_s: float
    share: float
    limit: int
    spent: int
    in_flight: int
    held: int
    left: int
    gate: int | None
    next_free_s: float | None
    closed_until: float | None
    token_refused_at: float | None
    spenders: tuple[Spender, ...]


def terms_of(profile: Profile, traits: Traits) -> Terms:
    """The quota of a profile, as the arithmetic takes it."""
    quota, window_s = profile.quota or (traits.quota, traits.window_s)
    share = profile.share or 1.0
    longest_ns = ns(traits.longest_delay_s)
    return Terms(quota, ns(window_s), longest_ns, share, traits.quota_headers)


def key_for(endpoint: str, profile: Profile, fingerprint: str) -> tuple[str, str]:
    """The key of a profile's window, and the name under which a replaced token inherits it."""
    return key_of(endpoint, profile.quota_group or fingerprint), f"{profile.name} {endpoint}"


async def quota_use(
    quotas: Quotas,
    folder: Path,
    profile: Profile,
    endpoint: str,
    traits: Traits,
    fingerprint: str,
    clock: Clock,
) -> QuotaUse:
    """What the store says of a profile's quota. Nothing is asked of the platform, nothing written.

    Raises `QuotaStoreError` where the store cannot be read.
    """
    terms = terms_of(profile, traits)
    key, name = key_for(endpoint, profile, fingerprint)
    if quotas.store is None or not _REDIS.match(quotas.store):
        path, wall_at = _file(quotas, folder), clock.wall_at()
        seen = await hop(
            lambda: seen_in_file(path, key, terms, profile=name, token=fingerprint, wall_at=wall_at)
        )
    else:
        from penstock.engine.slots_redis import RedisSlotStore  # noqa: PLC0415 - as above

        store = RedisSlotStore(quotas.store)
        try:
            seen = await store.seen(key, terms, profile=name, token=fingerprint)
        finally:
            await store.aclose()
    rationed = traits.rationed or profile.quota is not None
    return _use(seen, profile, endpoint, terms, rationed=rationed)


def _use(seen: Seen, profile: Profile, endpoint: str, terms: Terms, *, rationed: bool) -> QuotaUse:
    now_ns, count, standing = seen.now_ns, seen.count, seen.standing
    standing.advance(now_ns, count, terms)
    gate = standing.left(count, now_ns, terms)
    limit = standing.effective_limit(terms)
    left = max(0, limit - count.used)
    if gate is not None:
        left = min(left, gate)
    if standing.rests(count):
        left = 0
    next_ns = count.next_free_ns
    closed = now_ns < standing.closed_until_ns
    if closed:
        left, next_ns = 0, standing.closed_until_ns
    elif gate == 0:
        next_ns = standing.gate_ends_ns
    return QuotaUse(
        profile=profile.name,
        endpoint=endpoint,
        quota=terms.quota,
        rationed=rationed,
        window_s=terms.window_ns / NS_PER_S,
        share=terms.share,
        limit=limit,
        spent=max(0, count.used - count.in_flight),
        in_flight=count.in_flight,
        held=count.used,
        left=left,
        gate=gate,
        next_free_s=None if next_ns is None else max(0, next_ns - now_ns) / NS_PER_S,
        closed_until=standing.closed_until_ns / NS_PER_S if closed else None,
        token_refused_at=seen.refused_at,
        spenders=seen.spenders,
    )
