"""When an HTTP server wants to be asked again: the header Retry-After, for the backends that speak HTTP."""

from __future__ import annotations

import time

__all__ = ["retry_after"]

SHORTEST, LONGEST = 1.0, 86400.0  # seconds that are believed


def retry_after(value: str | None, otherwise: float) -> float:
    """Seconds to wait, from the header's text: a number of seconds or a date (RFC 9110 section 10.2.3).

    Without a header that can be read it is `otherwise`; never less than 1 second, never more than a day.
    """
    from email.utils import parsedate_to_datetime

    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return min(max(float(text[:9]), SHORTEST), LONGEST)
    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return otherwise
    return min(max(seconds, SHORTEST), LONGEST)
