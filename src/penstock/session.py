"""What a run needs, opened in order and closed in reverse: ledger, quota, connections, exchange.

Composition only. What is decided here is which parts a profile gets, from its settings and its
platform's traits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path

import anyio

from penstock.config import Profile, Settings, Token
from penstock.core.errors import PenstockError, ProfileError, TokenRefused
from penstock.core.events import Event, Note, QuotaWait
from penstock.core.traits import Traits
from penstock.core.values import quick_value
from penstock.core.width import Width
from penstock.engine import descriptors, permits
from penstock.engine.clock import Clock
from penstock.engine.exchange import TRIES, Credentials, Exchange, refused_sentence
from penstock.engine.files import hop
from penstock.engine.ledger import Ledger
from penstock.engine.limiter import Limiter
from penstock.engine.pacing import Pacer
from penstock.engine.permits import Permits
from penstock.engine.reaching import proxy_for, trusting
from penstock.engine.slots import SlotStore
from penstock.engine.transport import Transport
from penstock.platforms.base import Platform
from penstock.quotas import Quotas, key_for, open_store

# A token that ends within this time is warned of: long runs go on for days.
SOON_DAYS = 3

# What a profile's `platform` means here: where its class is, and whether that is made from the
# profile's settings too, which are the platform's own. A platform is added by a line. Only the one
# that is asked is imported: all of them take longer than a run that finds nothing to do.
PLATFORMS: dict[str, tuple[str, str, bool]] = {
    "coscine": ("penstock.platforms.coscine", "Coscine", True),
    "datameta": ("penstock.platforms.datameta", "DataMeta", False),
    "sevenbridges": ("penstock.platforms.sevenbridges", "SevenBridges", False),
    "surf": ("penstock.platforms.surf", "Surf", True),
    "web": ("penstock.platforms.web", "Web", False),
}


@quick_value(frozen=True, slots=True)
class Folders:
    """Where a run remembers: its ledger and reports, and the quota shared by all runs of a user."""

    state: Path
    quota: Path

    @property
    def kept(self) -> Path:
        """Answers that hardly change (profiles, vocabularies), for all runs of a user."""
        return self.quota / "answers"


@dataclass(slots=True)
class Session:
    """One profile, ready to be asked."""

    profile: Profile
    exchange: Exchange
    limiter: Limiter
    clock: Clock


def platform_of(profile: Profile) -> Platform:
    """The platform a profile is of.

    Raises `ProfileError` for one that penstock cannot speak to yet, or that has no endpoint.
    """
    where = PLATFORMS.get(profile.platform)
    if where is None:
        raise ProfileError(
            f"the profile {profile.name} is of the platform {profile.platform}, which this version "
            f"cannot move files to or from (it can: {', '.join(sorted(PLATFORMS))})"
        )
    if not profile.endpoint:
        raise ProfileError(f"the profile {profile.name} has no endpoint: set one in config.toml")
    module, name, takes_settings = where
    make = getattr(import_module(module), name)
    platform: Platform = make(profile.endpoint, *([profile.settings] if takes_settings else []))
    return platform


async def read_token(profile: Profile) -> Token:
    """The profile's token, read in a thread: a key ring may take its time.

    Raises `ProfileError` where there is none.
    """
    return await hop(profile.token.read)


@asynccontextmanager
async def open_session(
    profile: Profile,
    settings: Settings,
    *,
    folders: Folders,
    emit: Callable[[Event], None],
    clock: Clock,
    concurrency: int | None = None,
    bwlimit: int | None = None,
    retries: int | None = None,
    quotas: Quotas | None = None,
    store: SlotStore | None = None,
) -> AsyncIterator[Session]:
    """A profile's session; everything it opened is closed at the end.

    `bwlimit` is bytes a second over all bodies, `quotas` what the command says about quotas; a
    `store` that is given stays its giver's.

    Raises `ProfileError`, `TokenRefused` (also where the token was refused within the hour: then
    without a request), `QuotaStoreError`, and `UsageError` for a store that another machine uses.
    """
    quotas = quotas or Quotas()
    profile = quotas.of(profile)
    platform = platform_of(profile)
    traits = platform.traits
    token = await read_token(profile) if traits.needs_token else Token("")
    for warning in (*settings.warnings, *_expiry(profile, clock)):
        emit(Note(warning))

    async def reread() -> Token | None:
        if not profile.token.rereadable:
            return None
        try:
            return await read_token(profile)
        except PenstockError:
            return None

    owned = store is None
    used = store or await open_store(quotas, folders.quota, lambda text: emit(Note(text)))
    try:
        if await used.token_refused_at(token.fingerprint(), clock.wall_at()) is not None:
            raise TokenRefused(remembered_sentence(profile.name))
        quota, window_s = profile.quota or (traits.quota, traits.window_s)
        key, window_of = key_for(platform.endpoint, profile, token.fingerprint())
        width = width_for(concurrency, traits, clock)
        wide = permits.BEGIN if concurrency is None else None
        bodies = Permits(width, clock.now_s, wide=wide)
        async with (
            Transport(
                connections=min(max(100, 4 * bodies.width.most), descriptors.each_kind()),
                pacer=Pacer(bwlimit, clock.now_s) if bwlimit is not None else None,
                tls=await hop(trusting, profile.network),
                proxy=partial(proxy_for, profile.network),
            ) as transport,
            Limiter(
                key=key,
                quota=quota,
                window_s=window_s,
                store=used,
                clock=clock,
                headers=traits.quota_headers,
                silent=traits.silent,
                longest_delay_s=traits.longest_delay_s,
                share=profile.share or 1.0,
                weight=profile.weight,
                token=token.fingerprint(),
                profile=window_of,
                on_wait=lambda seconds: emit(QuotaWait(profile.name, seconds)),
            ) as limiter,
        ):
            exchange = Exchange(
                platform,
                credentials=Credentials(profile.name, token, reread),
                limiter=limiter,
                transport=transport,
                permits=bodies,
                clock=clock,
                tries=(retries + 1) if retries is not None else TRIES,
                tell=lambda text: emit(Note(text)),
            )
            yield Session(profile, exchange, limiter, clock)
    finally:
        if owned:
            with anyio.CancelScope(shield=True):
                await used.aclose()


def width_for(concurrency: int | None, traits: Traits, clock: Clock) -> Width:
    """Bodies in flight: what is asked for, else what finds its level, as the platform bears it."""
    room = descriptors.each_kind()
    if concurrency is not None:
        fixed = min(concurrency, traits.bodies_at_once or concurrency, room)
        return Width(least=fixed, most=fixed, begin=fixed, now_s=clock.now_s())
    most = min(permits.MOST, traits.bodies_at_once or permits.MOST, room)
    least = min(permits.LEAST, room)
    return Width(least=least, most=most, begin=least, now_s=clock.now_s())


def _expiry(profile: Profile, clock: Clock) -> list[str]:
    """A warning where the token is known to end about now."""
    if profile.token_expires is None:
        return []
    today = datetime.fromtimestamp(clock.wall_at(), UTC).date()
    if profile.token_expires > today + timedelta(days=SOON_DAYS):
        return []
    warning = (
        f"the token of {profile.name} expires on {profile.token_expires}: a run that goes on after "
        "that stops, and carries on with a new token"
    )
    return [warning]


def remembered_sentence(profile: str) -> str:
    """What to tell of a token that was refused within the hour."""
    return (
        f"{refused_sentence(profile)} (it was refused within the last hour, so nothing was asked)"
    )


def ledger_in(folders: Folders, clock: Clock, *, rebuild: bool = False) -> Ledger:
    """The ledger of a state folder, not yet opened; `rebuild` as in `engine.commits`."""
    return Ledger(folders.state, wall=clock.wall_at, rebuild=rebuild)
