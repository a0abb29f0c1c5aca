"""Sizes, durations, rates, shares and quotas as people write them, and back.

One meaning a spelling, in the convention of GNU coreutils and rclone: `K M G T P` and `KiB …` are
powers of 1024, `KB …` powers of 1000. A text that fits no spelling is a `UsageError` whose sentence
names the text and the spellings; which option it came from, the caller adds. Arithmetic is exact
(fractions), so that no size is off by a byte. Nothing here reads an option, a file or a clock.
"""

from __future__ import annotations

import re
from fractions import Fraction

from penstock.core.errors import UsageError

_NUMBER = r"(?:[0-9]{1,18}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})"
_SIZE = re.compile(rf"\s*({_NUMBER})\s*(?:([kmgtp])(i?b)?|b)?\s*", re.IGNORECASE)
_DURATION = re.compile(
    rf"\s*(?:({_NUMBER})d)?\s*(?:({_NUMBER})h)?\s*(?:({_NUMBER})m)?\s*(?:({_NUMBER})s)?\s*",
    re.IGNORECASE,
)
_SECONDS = re.compile(rf"\s*({_NUMBER})\s*")
_SHARE = re.compile(rf"\s*({_NUMBER})\s*(?:/\s*({_NUMBER})\s*)?")
_QUOTA = re.compile(r"\s*([0-9]{1,9})\s*/(.+)", re.DOTALL)
_UNIT_S = (86_400, 3_600, 60, 1)
# Above a century a duration is a slip, and sums with it lose whole seconds.
LONGEST_S = 100 * 366 * 86_400


def parse_size(text: str | int) -> int:
    """Whole bytes in `20MiB`, `1G`, `5MB`, `1.5g`, `4096`; fractions of a byte are cut off.

    Raises `UsageError` for anything else, negative numbers included. 0 is a size.
    """
    if isinstance(text, int):
        if text < 0:
            raise UsageError(f"{text} is no size: it is below 0")
        return text
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"{_shown(text)} is no size: write 4096, 512K, 20MiB, 5MB or 1.5GiB")
    number, unit, suffix = match.groups()
    if unit is None:
        return int(Fraction(number))
    base = 1000 if (suffix or "").lower() == "b" else 1024
    return int(Fraction(number) * base ** ("kmgtp".index(unit.lower()) + 1))


def parse_rate(text: str | int) -> int:
    """Whole bytes a second in `20MiB` or `20MiB/s`; at least 1. Raises `UsageError`."""
    plain = (
        re.sub(r"\s*/\s*s\s*\Z", "", text, flags=re.IGNORECASE) if isinstance(text, str) else text
    )
    rate = parse_size(plain)
    if rate < 1:
        raise UsageError(f"{_shown(text)} is no rate: at least one byte a second has to move")
    return rate


def parse_duration(text: str | float) -> float:
    """Seconds in `90`, `15m`, `8h`, `1h30m`, `2d`, `1.5h`; 0 is a duration.

    Raises `UsageError` for anything else, and above a century.
    """
    if isinstance(text, int | float):
        total = Fraction(text) if 0 <= text <= LONGEST_S else Fraction(-1)
    elif match := _SECONDS.fullmatch(text):
        total = Fraction(match[1])
    else:
        units = _DURATION.fullmatch(text)
        values = units.groups() if units else ()
        if not any(values):
            raise UsageError(f"{_shown(text)} is no duration: write 90, 90s, 15m, 8h, 1h30m or 2d")
        total = sum(
            (
                Fraction(value) * unit_s
                for value, unit_s in zip(values, _UNIT_S, strict=True)
                if value
            ),
            start=Fraction(0),
        )
    if not 0 <= total <= LONGEST_S:
        raise UsageError(f"{_shown(text)} is no duration: it must lie between 0 and a century")
    return float(total)


def parse_share(text: str | float) -> float:
    """A share, above 0 and at most 1, in `0.8` or `1/20`. Raises `UsageError`."""
    if isinstance(text, int | float):
        share = Fraction(text) if 0 < text <= 1 else Fraction(0)
    else:
        match = _SHARE.fullmatch(text)
        if match is None:
            raise UsageError(f"{_shown(text)} is no share: write 0.8 or 1/20")
        divisor = Fraction(match[2] or 1)
        share = Fraction(match[1]) / divisor if divisor else Fraction(0)
    if not 0 < share <= 1:
        raise UsageError(f"{_shown(text)} is no share: it must be above 0 and at most 1")
    return float(share)


def parse_quota(text: str) -> tuple[int, float]:
    """(requests, window in seconds) in `500/60s`, `1000/5m`, `1000/300`; both above 0.

    Raises `UsageError`.
    """
    match = _QUOTA.fullmatch(text)
    if match is None:
        raise UsageError(f"{_shown(text)} is no quota: write requests per window, as in 500/60s")
    requests, window_s = int(match[1]), parse_duration(match[2])
    if requests < 1 or window_s <= 0:
        raise UsageError(f"{_shown(text)} is no quota: requests and window must be above 0")
    return requests, window_s


# Digits of more would be no count of anything, and `int` refuses them at some length.
_LONGEST_NUMBER = 18


def whole_number(text: str | None) -> int | None:
    """The number in a foreign header field; None for what is no plain number, as `²` or `-1`."""
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        return None
    return int(text)


def format_size(size: int) -> str:
    """A size for people, in powers of 1024: `0 B`, `1.0 KiB`, `20.0 MiB`."""
    if abs(size) < 1024:  # noqa: PLR2004 - below one KiB
        return f"{size} B"
    amount = float(size)
    unit = ""
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):  # noqa: B007 - the last one reached is meant
        amount /= 1024
        # What would be shown as 1024.0 is one of the next unit.
        if abs(amount) < 1023.95:  # noqa: PLR2004 - see above
            break
    return f"{amount:.1f} {unit}"


def format_duration(duration_s: float) -> str:
    """A duration for people, two units at most: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 30 min`."""
    if duration_s < 0:
        return f"-{format_duration(-duration_s)}"
    if duration_s < 9.95:  # noqa: PLR2004 - below ten seconds the tenth is of interest
        return f"{duration_s:.1f} s"
    whole_s = round(duration_s)
    minutes, seconds = divmod(whole_s, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    if minutes:
        return f"{minutes} min {seconds:02} s"
    return f"{seconds} s"


def _shown(value: object) -> str:
    """What a person wrote, quoted and cut to a length that fits a sentence."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004 - a sentence's room
