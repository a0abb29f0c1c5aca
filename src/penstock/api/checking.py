"""`check` and `quota`: whether a token works, and what is spent of what it may spend."""

from __future__ import annotations

import os
from collections.abc import (
    Mapping,
)

from penstock.api.opening import folders_of, settings_of
from penstock.core.errors import (
    ProfileError,
    TokenRefused,
)
from penstock.engine.clock import Clock
from penstock.engine.files import hop
from penstock.engine.slots import SlotStore
from penstock.quotas import QuotaUse, open_store, quota_use, read_quotas
from penstock.session import open_session, platform_of, read_token


async def check(
    profile: str,
    *,
    state: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    quota_store: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Tries a profile's token by one request, also one that was remembered as refused.

    Where refusals lock an account, a token is tried again once an hour. Raises `TokenRefused` where
    the platform refuses it, or would lock its owner out, and whatever else stands in the way.
    """
    environ = os.environ if environ is None else environ
    settings = settings_of(config, environ)
    found = settings.profile(profile)
    folders = folders_of(state, environ)
    token = await hop(found.token.read)
    store = await open_store(read_quotas(store=quota_store), folders.quota, lambda _: None)
    refused, tried, clock = token.fingerprint(), f"{token.fingerprint()}:tried", Clock.running()
    try:
        if platform_of(found).traits.refusals_lock:
            await _spare_the_account(store, refused, tried, profile, clock.wall_at())
        await store.forget_refusal(refused)
        async with open_session(
            found,
            settings,
            folders=folders,
            emit=lambda _: None,
            clock=clock,
            store=store,
        ) as session:
            await session.exchange.run(session.exchange.platform.list_containers(None))
        await store.forget_refusal(tried)
    finally:
        await store.aclose()


async def _spare_the_account(
    store: SlotStore, refused: str, tried: str, profile: str, now_at: float
) -> None:
    """Notes that a refused token is tried once more; raises `TokenRefused` where it was before."""
    if await store.token_refused_at(refused, now_at) is None:
        return
    if await store.token_refused_at(tried, now_at) is not None:
        raise TokenRefused(
            f"the token of {profile} was refused, and refused again when it was checked within the "
            "last hour, so nothing was asked: the platform locks an account whose expired token "
            "goes on being used. Get a new token; it is tried at once"
        )
    await store.note_refusal(tried, now_at)


async def quota(
    profile: str | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    quota_share: float | str | None = None,
    quota_store: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> list[QuotaUse]:
    """What is spent and left of the quotas of one profile, or of all that have a token.

    Asks no platform and changes nothing. Raises `ProfileError` for a named profile without a
    token or on a platform without a quota, `QuotaStoreError` where the store cannot be read.
    """
    environ = os.environ if environ is None else environ
    settings = settings_of(config, environ)
    quotas = read_quotas(quota_share, quota_store)
    folder = folders_of(None, environ).quota
    found = []
    for name in [profile] if profile is not None else settings.profiles:
        try:
            asked = quotas.of(settings.profile(name))
            platform = platform_of(asked)
            token = await read_token(asked)
        except ProfileError:
            if profile is not None:
                raise
            continue
        found.append(
            await quota_use(
                quotas,
                folder,
                asked,
                platform.endpoint,
                platform.traits,
                token.fingerprint(),
                Clock.running(),
            )
        )
    return found
