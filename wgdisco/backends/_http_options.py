"""What the user says about a web server: URL, credentials and certificates, checked before anything is sent."""

from __future__ import annotations

import base64
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from wgdisco.backend import Secret
from wgdisco.errors import ConfigError

if TYPE_CHECKING:
    from wgdisco.backends.http import Http

__all__ = ["bare", "check", "context", "credentials", "origin", "revealed"]


def check(backend: Http) -> None:
    """Raise ConfigError for options that cannot be used."""
    parts = urlsplit(backend.url)
    if parts.username is not None:
        raise ConfigError(f"url {bare(backend.url)!r} has a user in it; use the options user and password")
    wanted = "expected a URL like 'https://nas.example/wg/{slot}'"
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ConfigError(f"url {bare(backend.url)!r}: {wanted}")
    if "{slot}" not in parts.path + parts.query:
        raise ConfigError(f"url {bare(backend.url)!r} has no {{slot}}; {wanted}")
    if bool(backend.user) != bool(backend.password):
        raise ConfigError(f"user {backend.user!r} and password go together, and only one of them is set")
    if backend.user and backend.token:
        raise ConfigError(f"user {backend.user!r} and token are two ways to say who you are; set one of them")
    if ":" in backend.user:
        raise ConfigError(f"user {backend.user!r} has a colon in it, which HTTP Basic cannot carry (RFC 7617)")
    if backend.ca and parts.scheme == "http":
        raise ConfigError(f"ca {backend.ca!r} is for https, but url is {bare(backend.url)!r}")


def credentials(backend: Http) -> dict[str, str]:
    """The headers that only the server itself may see."""
    private = dict(backend.headers)
    if backend.user:
        pair = base64.b64encode(f"{backend.user}:{backend.password.reveal()}".encode()).decode()
        private["Authorization"] = f"Basic {pair}"
    if backend.token:
        token = revealed("token", backend.token)
        bearer = backend.token_header.lower() == "authorization"
        private[backend.token_header] = f"Bearer {token}" if bearer else token
    return private


def revealed(option: str, secret: Secret) -> str:
    """The secret; raises ConfigError, without showing it, for what no request can carry."""
    text = secret.reveal()
    if not text.isascii() or not text.isprintable():
        raise ConfigError(f"{option} has characters that no HTTP request can carry; expected printable ASCII")
    return text


def context(ca: str) -> ssl.SSLContext:
    """What TLS verifies: the file of an authority, or the system's with ''; raises ConfigError."""
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"ca {ca!r}: {reason}; expected a file with certificates in PEM") from error


def origin(url: str) -> tuple[str, str]:
    """Scheme and server of a URL, which decide who may see credentials (RFC 6454)."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def bare(url: str) -> str:
    """The URL as it may be shown: without user, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
