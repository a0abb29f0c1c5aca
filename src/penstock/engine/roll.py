"""Things listed by pages, with the position of each: where to look for one later.

A listing is whole when the distinct ids are as many as the server counts and that count held;
else it is read again, and after three times the run is told. Positions are hints: what is not
found at its own is looked for in the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.engine.exchange import Exchange
from penstock.platforms.control import Control, Scope, Thing

_TRIES = 3


@dataclass(slots=True)
class Roll:
    """Things by id, in the server's order, and their positions.

    `page_size` is how many the server puts on a page, `whole` whether nothing can be missing.
    """

    things: dict[str, Thing] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    page_size: int = 100
    whole: bool = True


async def call_roll(exchange: Exchange, control: Control, scope: Scope) -> Roll:
    """Everything in the scope; what is deleted is left out."""
    roll = Roll()
    for _ in range(_TRIES):
        roll = await _once(exchange, control, scope)
        if roll.whole:
            break
    return roll


async def _once(exchange: Exchange, control: Control, scope: Scope) -> Roll:
    roll = Roll(page_size=exchange.platform.traits.page_size)
    totals: set[int | None] = set()
    seen: set[str] = set()
    offset: int | None = 0
    while offset is not None:
        page = await exchange.run(control.list_things(scope, offset))
        for index, thing in enumerate(page.things, start=offset):
            seen.add(thing.id)
            if thing.status != "deleted":
                roll.things[thing.id] = thing
                roll.positions[thing.id] = index
        totals.add(page.total)
        if page.next is not None and offset == 0:
            roll.page_size = page.next
        offset = page.next
    (total, *others) = totals
    roll.whole = not others and (total is None or len(seen) == total)
    return roll
