"""What answers say about a quota, and what may be spent after they said it.

`read_headers` turns an answer's fields into a `Word`. `Standing` is what is known of one key
beside its slots: the gate, how long it is closed, the N and burst still believed in, whose probe
is out. It is shared by every process that spends the key: a store keeps it, applies what was
heard and grants what `Standing.room` allows, in one transaction.

After a refusal that names no moment, what had been taken by then is `proved`. Beyond it only few
requests are in flight at once, so that the next refusal finds few on the way; it then lowers N to
what was taken, and each such edge doubles the clean windows until more is tried again.

The invariant: nothing here ever raises what may be spent above the profile's N. Headers lower it,
refusals lower it, clean windows give it back. All times are nanoseconds and handed in; nothing is
random, and nothing waits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple, TypeAlias

from penstock.core.window import NS_PER_S, Count, ns

# A reset further away than the window, by more than rounding and a slow answer explain, is about
# some other window (Tyk fills X-RateLimit-* from an hourly quota unless told otherwise).
# Source: Tyk gateway, `rate_limit_response_headers`: "quotas" is the default.
_RESET_SLACK_S = 2.5
# Two resets nearer than this are the same window: Date and delta fields are whole seconds. In a
# window too short for that, half of it.
_SAME_WINDOW_NS = 2 * NS_PER_S
# On top of a reset, which is a promise about another machine's clock. A guess.
_MARGIN_NS = NS_PER_S // 4
# A longer wait than this is a broken field, not a wish. A guess.
_LONGEST_RETRY_AFTER_S = 86_400.0
# A token accepted this recently by one process need not be tried alone by the next. A guess.
_PROVED_NS = 10 * NS_PER_S
# Clean windows before a burst that was refused is tried again, doubled. A guess: "slowly".
_CLEAN_WINDOWS_PER_BURST = 10
# Others who spent the key are expected back within so many windows. A guess.
_COMPANY_WINDOWS = 10
_SMALLEST_BURSTS = 50
# A holder that missed slots and has not asked for this long does not want them any more.
_MISSED_NS = NS_PER_S
# Weights and what was served by weight, as whole numbers.
_WEIGHT_SCALE = 1000
_SERVICE_SCALE = 1_000_000_000
# Where N is not proved, this part of it may be in flight at once: what the first refusal finds on
# the way is refused as well. Source: benchmarks/quota_policies.py, "other at 30 %, unseen".
_UNPROVED_FLIGHTS = 250
# The most clean windows between two tries of what was refused. A guess.
_MOST_PATIENCE = 32


@dataclass(frozen=True, slots=True)
class Terms:
    """What a profile says about its quota: `quota` requests in any `window_ns`.

    `share` is the part of it that is ours to spend; `longest_delay_ns` is how long after it was
    given up a request may still be counted; `headers` is whether quota fields are to be believed.
    """

    quota: int
    window_ns: int
    longest_delay_ns: int = 0
    share: float = 1.0
    headers: bool = True

    @property
    def top(self) -> int:
        """The most slots that are ever in use."""
        return max(1, int(self.quota * self.share))


class Word(NamedTuple):
    """What one answer says. None where it says nothing that can be believed.

    `reset_in_ns` counts from the answer, `reset_at_ns` is the same moment on the server's clock
    (it names the window); both include what truncation to seconds may have cut off.
    """

    limit: int | None = None
    remaining: int | None = None
    reset_in_ns: int | None = None
    reset_at_ns: int | None = None
    retry_after_ns: int | None = None


NOTHING = Word()

# Limit, remaining, seconds until the reset.
_Triple: TypeAlias = tuple[int | None, int, float]


def read_headers(
    headers: Mapping[str, str], *, quota: int, window_s: float, wall_at: float
) -> Word:
    """The word of an answer: `RateLimit`, `RateLimit-*`, `X-RateLimit-*`, `Retry-After`.

    `headers` is looked up by lower-case names; `wall_at` stands in for a missing `Date`. Nothing
    is learnt from a limit that is absent or not positive, a remainder outside it, or a reset
    that is not about a window of `window_s`.

    Source: RFC 9110 10.2.3 (Retry-After) and 5.6.7 (dates); draft-ietf-httpapi-ratelimit-headers
    -02 to -10; docs.sevenbridges.com/docs/api-rate-limit (X-RateLimit-Reset is epoch seconds).
    """
    date = _http_date(headers.get("date", ""))
    server_now = wall_at if date is None else date
    retry_after = _retry_after(headers.get("retry-after", ""), server_now)
    words = (
        _structured(headers, window_s),
        _triple(headers, "ratelimit-", quota, window_s, server_now),
        _triple(headers, "x-ratelimit-", quota, window_s, server_now),
        _triple(headers, "x-rate-limit-", quota, window_s, server_now),
    )
    for limit, remaining, reset_in_s in filter(None, words):
        if not -_RESET_SLACK_S < reset_in_s <= window_s + _RESET_SLACK_S:
            continue
        reset_in = ns(max(0.0, reset_in_s))
        return Word(limit, remaining, reset_in, ns(server_now) + reset_in, retry_after)
    return Word(retry_after_ns=retry_after)


def _retry_after(text: str, server_now: float) -> int | None:
    date = _http_date(text)
    seconds = _number(text) if date is None else date - server_now
    if seconds is None or not 0 < seconds <= _LONGEST_RETRY_AFTER_S:
        return None
    return ns(seconds)


def _number(text: str) -> float | None:
    # A quota policy may follow the number ('100, 100;w=60').
    # Source: draft-ietf-httpapi-ratelimit-headers-03, 2.1.
    match = re.match(r"\s*(-?\d{1,20}(?:\.\d{1,20})?)\s*(?:[,;]|$)", text)
    return float(match[1]) if match else None


def _http_date(text: str) -> float | None:
    if not re.match(r"\s*[A-Za-z]{3,9},? ", text):
        return None
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _triple(
    headers: Mapping[str, str], prefix: str, quota: int, window_s: float, server_now: float
) -> _Triple | None:
    limit = _number(headers.get(f"{prefix}limit", ""))
    remaining = _number(headers.get(f"{prefix}remaining", ""))
    # Source: Tyk gateway: an unlimited key says Limit -1, Remaining -1 or 0.
    if limit is None or remaining is None or limit < 1 or not 0 <= remaining <= limit:
        return None
    text = headers.get(f"{prefix}reset", "").strip()
    reset_in_s = _reset_in(text, server_now, window_s, ours=limit == quota)
    return None if reset_in_s is None else (int(limit), int(remaining), reset_in_s)


def _reset_in(text: str, server_now: float, window_s: float, *, ours: bool) -> float | None:
    """Seconds from the answer to the reset that `text` names in one of six formats.

    A moment in whole seconds is truncated: one second is added. Milliseconds until the reset are
    believed only where the limit is `ours`, for they look like the seconds of a longer window.
    """
    date = _http_date(text)
    if date is not None:
        return date + 1 - server_now
    if re.match(r"\d{4}-?\d\d-?\d\d[T ]", text):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.timestamp() + (0 if moment.microsecond else 1) - server_now
    value = _number(text)
    if value is None or value <= 0:
        return None
    # 1e11 seconds are the year 5138, 1e11 milliseconds 1973: epochs cannot be mistaken.
    if value >= 1e11:  # noqa: PLR2004 - said above
        return value / 1000 - server_now
    if value >= 1e9:  # noqa: PLR2004 - September 2001
        return value + (1 if value.is_integer() else 0) - server_now
    if value <= window_s + _RESET_SLACK_S:
        return value + (1 if value.is_integer() else 0)
    return value / 1000 if ours else None


def _structured(headers: Mapping[str, str], window_s: float) -> _Triple | None:
    """The tightest item of the IETF fields that is about a window of `window_s`."""
    text = headers.get("ratelimit", "")
    if not text:
        return None
    policies = dict(_items(headers.get("ratelimit-policy", "")))
    found: _Triple | None = None
    for name, said in _items(text):
        policy = policies.get(name, {})
        limit = policy.get("q", said.get("limit"))
        remaining, reset = said.get("r", said.get("remaining")), said.get("t", said.get("reset"))
        about = policy.get("w", window_s)
        if remaining is None or remaining < 0 or reset is None or about != window_s:
            continue
        if limit is not None and (limit < 1 or limit < remaining):
            continue
        if found is not None and found[1] <= remaining:
            continue
        found = (None if limit is None else int(limit), int(remaining), reset + 1)
    return found


def _items(text: str) -> list[tuple[str, dict[str, float]]]:
    """Items of a structured list with their numeric parameters.

    Draft 07 wrote one dictionary (`limit=100, remaining=50, reset=5`): an item without a name.
    """
    items: list[tuple[str, dict[str, float]]] = []
    loose: dict[str, float] = {}
    for member in re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+', text):
        head, *parameters = re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^;"])+', member.strip()) or [""]
        named = dict(_pairs(parameters))
        key, equals, value = head.partition("=")
        if equals and not head.startswith('"') and (number := _number(value)) is not None:
            loose[key.strip().lower()] = number
        elif (quantity := _number(head)) is not None:
            items.append(("", {"q": quantity, **named}))
        else:
            items.append((head.strip().strip('"'), named))
    return [*items, ("", loose)] if loose else items


def _pairs(parameters: list[str]) -> list[tuple[str, float]]:
    split = (parameter.partition("=") for parameter in parameters)
    numbers = ((key.strip().lower(), _number(value)) for key, _, value in split)
    return [(key, number) for key, number in numbers if number is not None]


@dataclass(frozen=True, slots=True)
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
    server_limit: int = 0
    others: int = 0
    others_at_first: int = 0
    probe_due_ns: int | None = None
    probe_slot: int | None = None
    company_ns: int = -(1 << 62)
    proved_ns: int = -(1 << 62)
    proved_by: str = ""
    shares: dict[str, list[int]] = field(default_factory=dict)
    """Of each holder that found too little: weight, service by weight, when, how much it missed."""

    def dumps(self) -> str:
        """As text."""
        return json.dumps([getattr(self, name) for name in _FIELDS])

    @classmethod
    def loads(cls, text: str) -> Standing:
        """From text; a text of another version is as good as none."""
        values = json.loads(text)
        return cls(*values) if len(values) == len(_FIELDS) else cls()

    def advance(self, now_ns: int, terms: Terms) -> None:
        """What time alone changes: a gate ends, clean windows give back what refusals took."""
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
            if self.remaining == 0 or shared or not (short and self.was_short):
                self._probe_from(self.gate_ends_ns)
            self.was_short = short
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
            self._close(heard.ended_ns + wait)
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
            self.proved = min(taken + _flight_unproved(terms), self.limit)
            self.patience = max(2, self.patience)

    def _hear_edge(self, heard: Heard, taken: int, count: Count, terms: Terms) -> None:
        """More than was proved had been tried, and this was too much: so much may be spent.

        Nothing is to be learnt from trying again before one of our own is no longer counted.
        """
        self.patience = min(_MOST_PATIENCE, self.patience * 2)
        self.limit = max(1, min(self.believed(terms), taken - max(1, terms.quota // 100)))
        self.proved = max(1, self.limit - max(1, terms.quota // 20))
        self.clean_ns = self.edge_ns = heard.ended_ns
        free_ns = count.next_free_ns or 0
        self._close(max(heard.ended_ns + terms.window_ns // 50, free_ns))

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
        live = self.others - self.others_at_first
        if live > 0:
            self.company_ns = heard.ended_ns
            if self.server_limit - live < self.limit:
                self.limit = max(1, self.server_limit - live)
                self.clean_ns = heard.ended_ns

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
        """The N that is believed in: the profile's share, less what refusals and others took."""
        return min(self.limit or terms.quota, terms.top)

    def effective_limit(self, terms: Terms) -> int:
        """The N of the present window, in which others may have spent before we came."""
        limit = self.believed(terms)
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

    def _has_company(self, now_ns: int, terms: Terms) -> bool:
        return now_ns - self.company_ns < _COMPANY_WINDOWS * terms.window_ns

    def room(
        self, count: Count, now_ns: int, terms: Terms, *, first: bool = False, token: str = ""
    ) -> Room:
        """What may be taken now. `first`: by a run that has not been answered yet.

        The first request of a run, and of each window judged by headers, is a probe: it goes
        alone, in the whole key, unless another process proved the same token a moment ago.
        """
        if now_ns < self.closed_until_ns:
            return Room(0, self.closed_until_ns, "closed")
        slots = self.believed(terms) - count.used
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

    def part_of(self, holder: str, weight: float, want: int, free: int, now_ns: int) -> int:
        """How many of the `free` slots a holder may take that wants so many.

        Whoever was served less, by its weight, goes first; nobody is more than an eighth of N
        ahead. Where there is enough for all who miss some, nothing is withheld.
        """
        others = {
            name: entry
            for name, entry in self.shares.items()
            if name != holder and now_ns - entry[2] < _MISSED_NS
        }
        mine = self.shares.get(holder)
        self.shares = dict(others)
        if not holder or not want:
            return want
        least = min((entry[1] for entry in others.values()), default=0)
        scaled = max(1, int(weight * _WEIGHT_SCALE))
        ahead = max(8, self.quota // 8) * _SERVICE_SCALE // _WEIGHT_SCALE
        served = max(mine[1] if mine else least, least - ahead) if others else 0
        self.shares[holder] = [scaled, served, now_ns, want]
        if not others or want + sum(entry[3] for entry in others.values()) <= free:
            return want
        return max(0, (least + ahead - served) * scaled // _SERVICE_SCALE)

    def served(self, holder: str, slots: int, want: int, now_ns: int) -> None:
        """So many of the wanted slots were granted."""
        entry = self.shares.get(holder)
        if entry is None or not want:
            return
        entry[1] += slots * _SERVICE_SCALE // entry[0]
        entry[2:] = [now_ns, want - slots]
        if slots >= want and len(self.shares) == 1:
            del self.shares[holder]
        elif slots >= want:
            entry[2] = now_ns - _MISSED_NS


def _flight_unproved(terms: Terms) -> int:
    return max(2, terms.quota // _UNPROVED_FLIGHTS)


_FIELDS = tuple(one.name for one in fields(Standing))
