"""Difference between this machine's clock and a server's, by the Date header of a response."""

from __future__ import annotations

from email.utils import parsedate_to_datetime


def clock_offset_s(date: str | None, sent_at: float, received_at: float) -> float | None:
    """Return how many seconds a server's clock is ahead of this machine's; negative: behind.

    Exact to the half of the exchange's duration and of a second, because the header has whole
    seconds.

    Args:
        date: The header; None if the response has none.
        sent_at: Time at which the request was sent, seconds since 1970 by this machine's clock.
        received_at: Time at which the response arrived.

    Returns:
        The difference; None without a header that can be read.
    """
    try:
        told_at = parsedate_to_datetime(date or "").timestamp() + 0.5
    except (ValueError, OverflowError):
        return None
    return told_at - (sent_at + received_at) / 2
