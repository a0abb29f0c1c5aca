"""What one answer says about a quota, read from its fields.

`read_headers` turns an answer's fields into a `Word`, and says nothing where a field is absent,
contradicts another, or is about something else than requests in a window of the profile's length.
What follows from a word does not belong here (see `quota`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

from penstock.core.times import http_date
from penstock.core.window import ns

# A reset further away than the window, by more than rounding and a slow answer explain, is about
# some other window (Tyk fills X-RateLimit-* from an hourly quota unless told otherwise).
# Source: Tyk gateway, `rate_limit_response_headers`: "quotas" is the default.
_RESET_SLACK_S = 2.5
# A longer wait than this is not believed to its end. A guess.
_LONGEST_RETRY_AFTER_S = 86_400.0


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
    headers: Mapping[str, str],
    *,
    quota: int,
    window_s: float,
    wall_at: float,
    refused: bool = False,
) -> Word:
    """The word of an answer: `RateLimit`, `RateLimit-*`, `X-RateLimit-*`, `Retry-After`.

    `headers` is looked up by lower-case names; `wall_at` stands in for a missing `Date`. Nothing
    is learnt from a limit that is absent or not positive, a remainder outside it, or a reset
    that is not about a window of `window_s`. Of a refusal (`refused`) a reset alone is believed:
    nothing is left until then.

    Source: RFC 9110 10.2.3 (Retry-After) and 5.6.7 (dates); draft-ietf-httpapi-ratelimit-headers
    -02 to -10; docs.sevenbridges.com/docs/api-rate-limit (X-RateLimit-Reset is epoch seconds).
    """
    date = http_date(headers.get("date", ""))
    server_now = wall_at if date is None else date
    retry_after = _retry_after(headers.get("retry-after", ""), server_now)
    for word in _words(headers, quota, window_s, server_now, refused=refused):
        if word is None:
            continue
        limit, remaining, reset_in_s = word
        if not -_RESET_SLACK_S < reset_in_s <= window_s + _RESET_SLACK_S:
            continue
        reset_in = ns(max(0.0, reset_in_s))
        return Word(limit, remaining, reset_in, ns(server_now) + reset_in, retry_after)
    return Word(retry_after_ns=retry_after)


def _words(
    headers: Mapping[str, str], quota: int, window_s: float, server_now: float, *, refused: bool
) -> Iterator[_Triple | None]:
    """What each family of fields says, the most precise first."""
    yield _structured(headers, window_s)
    for prefix in ("ratelimit-", "x-ratelimit-", "x-rate-limit-"):
        # Every answer is read, and most name one family, or none.
        if refused or f"{prefix}limit" in headers:
            yield _triple(headers, prefix, quota, window_s, server_now, refused=refused)


def _retry_after(text: str, server_now: float) -> int | None:
    date = http_date(text)
    seconds = _number(text) if date is None else max(0.0, date - server_now)
    if seconds is None or seconds < 0:
        return None
    return ns(min(seconds, _LONGEST_RETRY_AFTER_S))


# A quota policy may follow the number ('100, 100;w=60').
# Source: draft-ietf-httpapi-ratelimit-headers-03, 2.1.
_NUMBER = re.compile(r"\s*(-?\d{1,20}(?:\.\d{1,20})?)\s*(?:[,;]|$)")
_MOST_DIGITS = 20


def _number(text: str) -> float | None:
    if text.isdecimal() and len(text) <= _MOST_DIGITS:
        return float(text)
    match = _NUMBER.match(text)
    return float(match[1]) if match else None


def _triple(
    headers: Mapping[str, str],
    prefix: str,
    quota: int,
    window_s: float,
    server_now: float,
    *,
    refused: bool,
) -> _Triple | None:
    told = headers.get(f"{prefix}limit", "")
    if _is_elsewhere(f"{told}, {headers.get(f'{prefix}policy', '')}", window_s):
        return None
    limit = _number(told)
    remaining = _number(headers.get(f"{prefix}remaining", ""))
    text = headers.get(f"{prefix}reset", "").strip()
    if limit is None and refused:
        reset_in_s = _reset_in(text, server_now, window_s, ours=False)
        return None if reset_in_s is None or remaining else (None, 0, reset_in_s)
    # Source: Tyk gateway: an unlimited key says Limit -1, Remaining -1 or 0.
    if limit is None or remaining is None or limit < 1 or not 0 <= remaining <= limit:
        return None
    reset_in_s = _reset_in(text, server_now, window_s, ours=limit == quota)
    return None if reset_in_s is None else (int(limit), int(remaining), reset_in_s)


def _is_elsewhere(policies: str, window_s: float) -> bool:
    """Whether policies are told ('100;w=60'), and those of the limit are of other windows.

    The limit comes first and is that of the policy nearest to being exceeded: where policies have
    that number, it is one of them, else any of them.
    Source: draft-ietf-httpapi-ratelimit-headers-03, 2.1 and 3.1.
    """
    if ";" not in policies:
        return False
    windows: dict[float | None, list[float]] = {}
    for policy in policies.split(","):
        if (found := re.search(r";\s*w\s*=\s*\"?(\d{1,10})", policy)) is not None:
            windows.setdefault(_number(policy), []).append(float(found[1]))
    told = windows.get(_number(policies)) or [one for some in windows.values() for one in some]
    return bool(told) and window_s not in told


def _reset_in(text: str, server_now: float, window_s: float, *, ours: bool) -> float | None:
    """Seconds from the answer to the reset that `text` names in one of six formats.

    A moment in whole seconds is truncated: one second is added. Milliseconds until the reset are
    believed only where the limit is `ours`, for they look like the seconds of a longer window.
    """
    date = None if text.isdecimal() else http_date(text)
    if date is not None:
        return date + 1 - server_now
    if not text.isdecimal() and re.match(r"\d{4}-?\d\d-?\d\d[T ]", text):
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
        if policy.get(_NO_REQUESTS):
            continue
        if remaining is None or remaining < 0 or reset is None or about != window_s:
            continue
        if limit is not None and (limit < 1 or limit < remaining):
            continue
        if found is not None and found[1] <= remaining:
            continue
        found = (None if limit is None else int(limit), int(remaining), reset + 1)
    return found


# What a policy counts, if not requests. Source: draft-ietf-httpapi-ratelimit-headers-09, 3.1.2.
_OTHER_UNIT = re.compile(r'\s*qu\s*=\s*"?(?!requests?"?\s*$).*', re.IGNORECASE)
_NO_REQUESTS = "counts no requests"


def _items(text: str) -> list[tuple[str, dict[str, float]]]:
    """Items of a structured list with their numeric parameters.

    Draft 07 wrote one dictionary (`limit=100, remaining=50, reset=5`): an item without a name.
    """
    items: list[tuple[str, dict[str, float]]] = []
    loose: dict[str, float] = {}
    for member in re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+', text):
        head, *parameters = re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^;"])+', member.strip()) or [""]
        named = dict(_pairs(parameters))
        if any(_OTHER_UNIT.fullmatch(parameter) for parameter in parameters):
            named[_NO_REQUESTS] = 1.0
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
