"""etcd's endpoints and certificates as the user gives them, checked before anything is sent."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from wgdisco.errors import ConfigError

__all__ = ["context"]


def context(endpoints: Sequence[str], ca: str, cert: str, key: str) -> ssl.SSLContext | None:
    """What TLS verifies and shows, None without https; raises ConfigError for an option that cannot be used.

    `ca` is a PEM file ('' for the system's certificates), `cert` and `key` those of the client ('' for none).
    """
    if not endpoints:
        raise ConfigError("endpoints is empty; expected URLs like 'https://etcd.example:2379'")
    schemes = {_scheme(url) for url in endpoints}
    if len(schemes) > 1:
        raise ConfigError(
            f"endpoints {', '.join(endpoints)} mix http and https; one would give away what the other hides"
        )
    if key and not cert:
        raise ConfigError(f"key {key!r} is set without cert; expected the client's certificate too")
    if schemes == {"http"}:
        if ca or cert:
            raise ConfigError(f"ca and cert are for https, but endpoints are {', '.join(endpoints)}")
        return None
    return _context(ca, cert, key)


def _scheme(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"endpoint {url!r} is no URL like 'https://etcd.example:2379'")
    if parts.username is not None:
        shown = url.replace(parts.netloc, f"…@{parts.netloc.rpartition('@')[2]}")
        raise ConfigError(f"endpoint {shown!r} has a user in it; use the options user and password")
    return parts.scheme


def _context(ca: str, cert: str, key: str) -> ssl.SSLContext:
    try:
        made = ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise ConfigError(f"ca {ca!r}: {_why(error)}; expected a file with certificates in PEM") from error
    try:
        if cert:
            made.load_cert_chain(cert, key or None, password=_no_password)
    except OSError as error:
        shown = f"cert {cert!r}, key {key!r}" if key else f"cert {cert!r}"
        raise ConfigError(f"{shown}: {_why(error)}; expected PEM files that belong together") from error
    return made


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _no_password() -> str:
    return ""  # or OpenSSL would ask on the terminal
