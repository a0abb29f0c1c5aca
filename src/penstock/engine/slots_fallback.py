"""A store for when another is lost: a fixed share of the quota, counted on this machine alone.

Once, and for the rest of the run: machines that find a store again at different moments would
count some requests in neither. All that was granted before the loss may count until the longest
delay and one window have passed, so nothing is spent until then; after that, so many machines with
shares that add up to 1 stay within the quota. A store that could not be reached at the start has
granted this run nothing, and the share is spent at once.

No counting belongs here: the local store does that, told of the loss as of a refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from penstock.core.errors import QuotaStoreError
from penstock.core.quota import Heard
from penstock.core.ratelimit import Word
from penstock.core.window import Terms
from penstock.engine.clock import Clock
from penstock.engine.groups import to_the_end
from penstock.engine.slots import Opened, Outcome, SlotStore, Turn
from penstock.engine.slots_axes import moved, moved_back


@dataclass(slots=True)
class _Asked:
    """What a key was opened with, and where it is spent on this machine since the loss."""

    key: str
    terms: Terms
    clock: Clock
    profile: str
    offset_ns: int
    local: Opened | None = None


class FallbackSlotStore:
    """`shared` until it is lost; then `local`, of which `share` of the quota is spent.

    `tell` is given one sentence, once, when that happens.
    """

    def __init__(
        self, shared: SlotStore, local: SlotStore, share: float, tell: Callable[[str], None]
    ) -> None:
        self._shared = shared
        self._local = local
        self._share = share
        self._tell = tell
        self._lost = False
        self._asked: dict[str, _Asked] = {}

    async def open(self, key: str, terms: Terms, clock: Clock, *, profile: str = "") -> Opened:
        """See `SlotStore.open`."""
        if not self._lost:
            try:
                opened = await self._shared.open(key, terms, clock, profile=profile)
            except QuotaStoreError as error:
                self._give_up(error)
            else:
                self._asked[opened.key] = _Asked(key, terms, clock, profile, opened.offset_ns)
                return opened
        opened = await self._local.open(key, self._ours(terms), clock, profile=profile)
        self._asked[opened.key] = _Asked(key, terms, clock, profile, opened.offset_ns, opened)
        return opened

    async def turn(self, key: str, turn: Turn) -> Outcome:
        """See `SlotStore.turn`."""
        asked = self._asked[key]
        if not self._lost:
            try:
                return await self._shared.turn(key, turn)
            except QuotaStoreError as error:
                self._give_up(error)
        return await to_the_end(self._turn_here(asked, turn))

    async def token_refused_at(self, token: str, now_at: float | None = None) -> float | None:
        """See `SlotStore.token_refused_at`."""
        if not self._lost:
            try:
                return await self._shared.token_refused_at(token, now_at)
            except QuotaStoreError as error:
                self._give_up(error)
        return await self._local.token_refused_at(token, now_at)

    async def note_refusal(self, token: str, now_at: float) -> None:
        """See `SlotStore.note_refusal`."""
        if not self._lost:
            try:
                await self._shared.note_refusal(token, now_at)
            except QuotaStoreError as error:
                self._give_up(error)
        await self._local.note_refusal(token, now_at)

    async def forget_refusal(self, token: str) -> None:
        """The token may be tried again."""
        if not self._lost:
            try:
                await self._shared.forget_refusal(token)
            except QuotaStoreError as error:
                self._give_up(error)
        await self._local.forget_refusal(token)

    async def aclose(self) -> None:
        """Both are closed."""
        try:
            await self._shared.aclose()
        finally:
            await self._local.aclose()

    def _ours(self, terms: Terms) -> Terms:
        return replace(terms, share=min(terms.share, self._share), together=True)

    def _give_up(self, error: QuotaStoreError) -> None:
        if not self._lost:
            self._lost = True
            why = str(error).partition("; nothing may be spent")[0]
            self._tell(
                f"{why}; this run goes on with {self._share:g} of the quota, counted on this "
                "machine alone"
            )

    async def _turn_here(self, asked: _Asked, turn: Turn) -> Outcome:
        loss: tuple[Heard, ...] = ()
        if asked.local is None:
            asked.local = await self._local.open(
                asked.key, self._ours(asked.terms), asked.clock, profile=asked.profile
            )
            rest_ns = turn.terms.longest_delay_ns + turn.terms.window_ns
            word = Word(retry_after_ns=rest_ns)
            loss = (Heard(turn.now_ns, turn.now_ns, word, refused=True),)
        later_ns = asked.local.offset_ns - asked.offset_ns
        here = replace(turn, terms=self._ours(turn.terms), heard=turn.heard + loss)
        here = moved(here, turn.now_ns + later_ns, later_ns)
        return moved_back(await self._local.turn(asked.local.key, here), later_ns)
