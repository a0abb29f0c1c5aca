"""What may be spent of a quota, after what answers said about it (`ratelimit`).

`Standing` is what is known of one key beside its slots: the gate, how long it is closed, the N and
burst still believed in, whose probe is out. It is shared by every process that spends the key: a
store keeps it, applies what was heard and grants what `Standing.room` allows, in one transaction.

After a refusal that names no moment, what had been taken by then is `proved`. Beyond it only few
requests are in flight at once, so that the next refusal finds few on the way; it then lowers N to
what was taken, and each such edge doubles the clean windows until more is tried again. After an
edge, and where others are quicker than we at a reset that slides, the key rests until several of
its own slots are free: what they leave is room that is sure.

The invariant: nothing here ever raises what may be spent above the profile's N. Headers lower it,
refusals lower it, clean windows give it back. All times are nanoseconds and handed in; nothing is
random, and nothing waits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from penstock.core.ratelimit import NOTHING, Word
from penstock.core.shares import Runs
from penstock.core.values import quick_value
from penstock.core.window import NS_PER_S, Count, Terms

# Two resets nearer than this are the same window: Date and delta fields are whole seconds. In a
# window too short for that, half of it.
_SAME_WINDOW_NS = 2 * NS_PER_S
# On top of a reset, which is a promise about another machine's clock. A guess.
_MARGIN_NS = NS_PER_S // 4
# A token accepted this recently by one process need not be tried alone by the next. A guess.
_PROVED_NS = 10 * NS_PER_S
# Clean windows before a burst that was refused is tried again, doubled. A guess: "slowly".
_CLEAN_WINDOWS_PER_BURST = 10
# Others who spent the key are expected back within so many windows. A guess.
_COMPANY_WINDOWS = 10
_SMALLEST_BURSTS = 50
# A limit of a part of N whose resets are ever this much nearer than T is that of a shorter window,
# and no gate of T's. A guess; a refusal closes all the same.
_SHORTER_WINDOW = 10
_SMALLER_LIMIT = 4
_NEAR_GATES = 3
# Where N is not proved, this part of it may be in flight at once: what the first refusal finds on
# the way is refused as well. Source: benchmarks/quota_policies.py, "other at 30 %, unseen".
_UNPROVED_FLIGHTS = 500
# Others are less steady than this part of N. Source: the same.
_STEADY_PARTS = 25
# The most clean windows between two tries of what was refused. A guess.
_MOST_PATIENCE = 32


@quick_value(frozen=True, slots=True)
class Heard:
    """One request's end. `refused`: by the quota; `silent`: one time-out too many in a row."""

    sent_ns: int
    ended_ns: int
    word: Word = NOTHING
    refused: bool = False
    silent: bool = False
    lost: bool = False


class Room(NamedTuple):
    """How many slots may be taken now; where none, when to ask again (None: after an answer)."""

    slots: int
    next_ns: int | None
    why: str
    probe: bool = False


@dataclass(slots=True)
class Standing:
    """What is known of a key beside its slots. Plain numbers, so that any store can keep it."""

    quota: int = 0
    limit: int = 0
    burst: int = 0
    closed_until_ns: int = 0
    flight_ns: int = -1
    strikes: int = 0
    flight_limit: int = 0
    flight_refused: int = 0
    flight_edge: bool = False
    proved: int = 0
    patience: int = 1
    burst_patience: int = 1
    edge_ns: int = 0
    clean_ns: int = 0
    burst_clean_ns: int = 0
    remaining: int | None = None
    higher: int | None = None
    remaining_ns: int = 0
    gate_reset_ns: int = 0
    gate_first_ns: int = 0
    gate_ends_ns: int = 0
    was_short: bool = False
    rest_until_used: int | None = None
    near_gates: int = 0
    server_limit: int = 0
    others: int = 0
    others_at_first: int = 0
    probe_due_ns: int | None = None
    probe_slot: int | None = None
    company_ns: int = -(1 << 62)
    proved_ns: int = -(1 << 62)
    proved_by: str = ""
    runs: Runs = field(default_factory=Runs)

    def dumps(self) -> str:
        """As text."""
        return json.dumps([getattr(self, name) for name in _FIELDS])

    @classmethod
    def loads(cls, text: str) -> Standing:
        """From text; a text of another version is as good as none."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(values, list) or not all(map(_is_kept_so, values, _FIELDS)):
            return cls()
        if len(values) != len(_FIELDS):
            return cls()
        standing = cls(*values)
        standing.runs = Runs.loads(standing.runs)
        return standing

    def advance(self, now_ns: int, count: Count, terms: Terms) -> None:
        """What time alone changes: a gate ends, clean windows give back what refusals took."""
        if self.rest_until_used is not None and count.used <= self.rest_until_used:
            self.rest_until_used = None
        if self.quota != terms.quota:
            # Another N in the profile: what was learnt is kept in proportion.
            was = self.quota or 1
            self.limit = max(1, (self.limit or was) * terms.quota // was)
            self.burst = max(1, (self.burst or was) * terms.quota // was)
            self.quota = terms.quota
        if self.remaining is not None and now_ns >= self.gate_ends_ns:
            # A reset that slides with each request makes gates of moments, no windows: the first
            # may be the end of one we came late to, the second in a row is not probed.
            short = (self.gate_ends_ns - self.gate_first_ns) * 2 < terms.window_ns
            shared = self._has_company(now_ns, terms)
            if shared and short and self.was_short and not self.left(count, now_ns, terms):
                # What slides out of such a window now, whoever is quicker has: it may be others.
                self._rest(count.used - max(1, terms.quota // 100))
            if self.remaining == 0 or shared or not (short and self.was_short):
                self._probe_from(self.gate_ends_ns)
            self.was_short = short
            life_ns = self.gate_ends_ns - self.gate_first_ns
            near = self._is_near(life_ns, self.server_limit, terms)
            self.near_gates = self.near_gates + 1 if near else 0
            self.remaining = self.higher = None
            self.others = self.others_at_first = 0
        if self.limit < terms.quota:
            patience_ns = self.patience * terms.window_ns
            clean = (now_ns - self.clean_ns) // patience_ns
            more = clean * max(1, terms.quota // 40)
            self.limit = min(terms.quota, self.limit + more)
            self.clean_ns += clean * patience_ns
        if self.proved and now_ns - self.edge_ns >= (
            _COMPANY_WINDOWS * self.patience * terms.window_ns
        ):
            self.proved, self.patience = 0, 1
        slow_ns = _CLEAN_WINDOWS_PER_BURST * self.burst_patience * terms.window_ns
        while self.burst < terms.quota and now_ns - self.burst_clean_ns >= slow_ns:
            self.burst = min(terms.quota, self.burst * 2)
            self.burst_clean_ns += slow_ns

    def hear(self, heard: Heard, count: Count, terms: Terms) -> None:
        """Learn from one request's end. Its slot is settled already, and so in `count`."""
        if heard.lost and not heard.silent:
            return
        if heard.refused or heard.silent:
            self._hear_refusal(heard, count, terms)
        else:
            if heard.sent_ns > self.flight_ns:
                self._hear_end_of_flight(heard, count, terms)
            if self.probe_due_ns is not None and heard.sent_ns >= self.probe_due_ns:
                self.probe_due_ns = None
        if heard.word.remaining is not None and terms.headers:
            self._hear_word(heard, count, terms)
        elif self.remaining is not None and not heard.silent:
            # It was counted, and no remainder tells whether before or after the last one told.
            self.remaining = max(0, self.remaining - 1)

    def _taken(self, now_ns: int, count: Count, terms: Terms) -> int:
        """How many requests of the last window the platform took."""
        refused = self.flight_refused if now_ns - self.flight_ns < terms.window_ns else 0
        return max(0, count.used - count.in_flight - refused)

    def _hear_refusal(self, heard: Heard, count: Count, terms: Terms) -> None:
        word = heard.word
        wait = word.retry_after_ns
        if terms.headers and word.remaining == 0 and word.reset_in_ns is not None:
            wait = max(wait or 0, word.reset_in_ns + _MARGIN_NS)
        if wait is not None:
            # The gate had left room for it: somebody else took that.
            self.company_ns = heard.ended_ns
            self._close(heard.ended_ns + max(wait, _MARGIN_NS))
        if heard.sent_ns <= self.flight_ns:
            self.flight_refused += 1
            return
        again = heard.ended_ns - self.flight_ns < terms.window_ns and self.flight_ns >= 0
        taken = max(0, self._taken(heard.ended_ns, count, terms) - 1)
        self.flight_ns = heard.ended_ns
        if wait is not None:
            # A reset that slides names the next moment, not the next window: not twice.
            self.flight_refused = self.flight_refused + 1 if again else 1
            if (again or self.proved) and word.retry_after_ns is None:
                self._hear_edge(heard, taken, count, terms)
            return
        self.strikes += 1
        if self.strikes == 1:
            self.flight_limit, self.flight_refused = self.believed(terms), 1
            self.flight_edge = self.proved > 0 and taken * 10 >= self.proved * 9
            self.edge_ns = heard.ended_ns
        if self.strikes == 1 and self.flight_edge:
            self._hear_edge(heard, taken, count, terms)
            return
        # A server may count what it refuses: every retry prolongs the ban, so few are made.
        wait = terms.window_ns // 4 if self.strikes == 1 else terms.window_ns
        self._close(heard.ended_ns + wait)
        # The second refusal of a flight is its lone probe's: it says "still", not "less".
        if self.strikes != 2:  # noqa: PLR2004 - said above
            self.limit = max(1, self.believed(terms) * 7 // 10)
            self.clean_ns = self.burst_clean_ns = heard.ended_ns
            self.proved = self._sure_of(min(taken, self.limit), terms)
            if count.used > self.limit:
                self._rest(self.proved)
            self.patience = max(2, self.patience)

    def _hear_edge(self, heard: Heard, taken: int, count: Count, terms: Terms) -> None:
        """More than was proved had been tried, and this was too much: so much may be spent.

        Nothing is to be learnt from trying again before one of our own is no longer counted.
        """
        self.patience = min(_MOST_PATIENCE, self.patience * 2)
        self.limit = max(1, min(self.believed(terms), taken - max(1, terms.quota // 100)))
        self.proved = self._sure_of(self.limit, terms)
        self.clean_ns = self.edge_ns = heard.ended_ns
        free_ns = count.next_free_ns or 0
        self._close(max(heard.ended_ns + terms.window_ns // 50, free_ns))
        self._rest(self.proved)

    @staticmethod
    def _sure_of(taken: int, terms: Terms) -> int:
        """What will be taken again, though others are not as steady as that."""
        return max(1, taken - max(1, terms.quota // _STEADY_PARTS))

    def _rest(self, used: int) -> None:
        """Nothing is sent until no more than so many slots are used."""
        self.rest_until_used = max(0, used)

    def _hear_end_of_flight(self, heard: Heard, count: Count, terms: Terms) -> None:
        """The first acceptance after refusals.

        A platform that takes again after a quarter of a window did not want the burst, which
        shrinks. Where it had taken less than half of N by then, N is not to blame: given back.
        """
        strikes, self.strikes = self.strikes, 0
        if strikes != 1 or self.flight_edge:
            return
        # Later, what was taken before is no longer counted, and says nothing of a burst.
        if heard.sent_ns - self.flight_ns > terms.window_ns // 2:
            return
        taken = count.used - count.in_flight - self.flight_refused
        smallest = max(1, terms.quota // _SMALLEST_BURSTS)
        if self.burst > smallest:
            if self.burst < terms.quota:
                self.burst_patience = min(_MOST_PATIENCE, self.burst_patience * 2)
            self.burst = max(smallest, min(self.burst, taken) // 2)
            self.burst_clean_ns = heard.ended_ns
            if taken * 2 < self.flight_limit:
                self.limit = max(self.limit, self.flight_limit)
                self.proved, self.patience = 0, 1

    def _close(self, until_ns: int) -> None:
        self.closed_until_ns = max(self.closed_until_ns, until_ns)
        self._probe_from(self.closed_until_ns)

    def _probe_from(self, now_ns: int) -> None:
        self.probe_due_ns = max(self.probe_due_ns or 0, now_ns)

    def limit_future(self, now_ns: int, terms: Terms) -> None:
        """What was noted on a clock that has gone back since then is over within a window."""
        latest = now_ns + terms.window_ns
        self.closed_until_ns = min(self.closed_until_ns, latest)
        self.gate_ends_ns = min(self.gate_ends_ns, latest)
        self.gate_first_ns = min(self.gate_first_ns, now_ns)
        self.remaining_ns = min(self.remaining_ns, now_ns)
        self.flight_ns = min(self.flight_ns, now_ns)
        self.clean_ns = min(self.clean_ns, now_ns)
        self.burst_clean_ns = min(self.burst_clean_ns, now_ns)
        self.proved_ns = min(self.proved_ns, now_ns)
        self.company_ns = min(self.company_ns, now_ns)
        self.edge_ns = min(self.edge_ns, now_ns)
        if self.probe_due_ns is not None:
            self.probe_due_ns = min(self.probe_due_ns, latest)

    def _hear_word(self, heard: Heard, count: Count, terms: Terms) -> None:
        word = heard.word
        assert word.remaining is not None
        assert word.reset_in_ns is not None
        assert word.reset_at_ns is not None
        if not self._is_near(word.reset_in_ns, word.limit or 0, terms):
            self.near_gates = 0
        elif self.near_gates >= _NEAR_GATES:
            return
        same_ns = min(_SAME_WINDOW_NS, terms.window_ns // 2)
        later = word.reset_at_ns > self.gate_reset_ns + same_ns
        if self.remaining is None and heard.sent_ns < self.gate_ends_ns and not later:
            return  # about the window whose gate has just ended
        if self.remaining is None or later:
            self.remaining, self.higher = word.remaining, None
            self.remaining_ns = self.gate_first_ns = heard.ended_ns
            self.gate_reset_ns = word.reset_at_ns
            self.others = 0
            # All that was counted then, but this request, may have been theirs.
            self.others_at_first = (word.limit or word.remaining) - word.remaining - 1
        elif word.reset_at_ns < self.gate_reset_ns - same_ns:
            return  # about a window that is over
        elif word.remaining < self.remaining:
            self.remaining, self.higher = word.remaining, None
            self.remaining_ns = heard.ended_ns
        else:
            self._consider_higher(heard, word.remaining)
        self.server_limit = word.limit or 0
        # Whoever was counted in this window is no longer counted T after it was answered, so the
        # window has ended then, whatever the precision of Reset.
        self.gate_ends_ns = min(
            heard.ended_ns + word.reset_in_ns + _MARGIN_NS,
            self.gate_first_ns + terms.window_ns,
        )
        self.others = max(self.others, self._others_in(word, count))
        live = self.others - self.others_at_first if word.limit is not None else 0
        if live > 0:
            self.company_ns = heard.ended_ns
            if self.server_limit - live < self.limit:
                self.limit = max(1, self.server_limit - live)
                self.clean_ns = heard.ended_ns

    @staticmethod
    def _is_near(reset_in_ns: int, limit: int, terms: Terms) -> bool:
        """Whether this looks like the gate of a window much shorter than T."""
        return (
            0 < limit * _SMALLER_LIMIT <= terms.quota
            and reset_in_ns * _SHORTER_WINDOW <= terms.window_ns
        )

    def _consider_higher(self, heard: Heard, remaining: int) -> None:
        """A request sent after the lowest word was heard was counted later, and knows better."""
        if heard.ended_ns <= self.remaining_ns:
            return
        self.higher = remaining if self.higher is None else min(self.higher, remaining)
        if heard.sent_ns > self.remaining_ns:
            self.remaining, self.higher = self.higher, None
            self.remaining_ns = heard.ended_ns

    @staticmethod
    def _others_in(word: Word, count: Count) -> int:
        if word.limit is None or word.remaining is None:
            return 0
        spent = word.limit - word.remaining
        return max(0, spent - count.used)

    def believed(self, terms: Terms) -> int:
        """The N that is believed in: the profile's, less what refusals and others took."""
        return min(self.limit or terms.quota, terms.quota)

    def effective_limit(self, terms: Terms) -> int:
        """The N of the present window, in which others may have spent before we came."""
        limit = min(self.believed(terms), terms.top)
        if self.remaining is not None and self.server_limit and self.others:
            limit = min(limit, max(0, self.server_limit - self.others))
        return limit

    def left(self, count: Count, now_ns: int, terms: Terms) -> int | None:
        """What the gate leaves: the remainder, less all it may not have counted. None: no gate.

        With others about, a hundredth is left to what they send while our requests travel.
        """
        if self.remaining is None:
            return None
        company = self._has_company(now_ns, terms)
        reserve = max(1, terms.quota // 100) if company and self.remaining > 1 else 0
        return max(0, self.remaining - count.in_flight - reserve)

    def rests(self, count: Count) -> bool:
        """Whether nothing is tried until some of our own are no longer counted."""
        return self.rest_until_used is not None and count.used > self.rest_until_used

    def _has_company(self, now_ns: int, terms: Terms) -> bool:
        return now_ns - self.company_ns < _COMPANY_WINDOWS * terms.window_ns

    def room(
        self,
        count: Count,
        now_ns: int,
        terms: Terms,
        *,
        first: bool = False,
        token: str = "",
        holder: str = "",
    ) -> Room:
        """What may be taken now. `first`: by a run that has not been answered yet.

        The first request of a run, and of each window judged by headers, is a probe: it goes
        alone, in the whole key, unless another process proved the same token a moment ago.
        """
        if now_ns < self.closed_until_ns:
            return Room(0, self.closed_until_ns, "closed")
        slots = self.believed(terms) - count.used
        if slots <= 0 or self.rests(count):
            return Room(0, count.next_free_ns, "window")
        if terms.top < terms.quota:
            slots = min(slots, self.runs.left(count, now_ns, terms, holder))
            if slots <= 0:
                return Room(0, count.next_free_ns, "window")
        left = self.left(count, now_ns, terms)
        if left is not None and left <= 0:
            return Room(0, self.gate_ends_ns, "gate")
        unproved = first and not (self.proved_by == token and now_ns - self.proved_ns < _PROVED_NS)
        if self.probe_due_ns is not None or unproved:
            if self.probe_slot is not None:
                return Room(0, None, "probe")
            return Room(1, None, "", probe=True)
        if self.proved:
            sure = self.proved - count.used
            if sure <= 0:
                sure = _flight_unproved(terms) - count.in_flight
            if sure <= 0:
                return Room(0, count.next_free_ns, "unproved")
            slots = min(slots, sure)
        return Room(slots if left is None else min(slots, left), count.next_free_ns, "")


def _flight_unproved(terms: Terms) -> int:
    return max(1, terms.quota // _UNPROVED_FLIGHTS)


_FIELDS = tuple(one.name for one in fields(Standing))
_FRESH = Standing()


def _is_kept_so(value: object, name: str) -> bool:
    """Whether a field is kept as a value of that type."""
    usual = getattr(_FRESH, name)
    if name == "runs":
        return isinstance(value, dict) and all(isinstance(run, list) for run in value.values())
    if isinstance(usual, str):
        return isinstance(value, str)
    return isinstance(value, int) or (usual is None and value is None)
