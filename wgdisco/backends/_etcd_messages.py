"""etcd's messages as its v3 JSON gateway writes them, and how its refusals are told to the user.

The gateway carries gRPC messages as JSON (etcd.io/docs/v3.5/dev-guide/api_grpc_gateway): integers of 64 bits are
strings, bytes are base64, what is zero is absent. The types say which fields are read; all others are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from wgdisco.errors import RetryLater

__all__ = [
    "Event",
    "Grant",
    "Nothing",
    "Range",
    "Refused",
    "Token",
    "TooMuch",
    "Transaction",
    "Unavailable",
    "Watched",
    "decode",
    "decode_line",
    "refusal",
]

LONG = 60.0  # seconds to leave a server alone that refuses us
DENIED, EXHAUSTED, TOKEN = 7, 8, 16  # gRPC status codes
NO_USAGE = "if every call ends so, the server's certificate lacks clientAuth in its extendedKeyUsage"
HINTS = {
    "user name is empty": "this etcd wants the options user and password",
    "invalid user ID or password": "check the options user and password",
    "invalid auth token": "etcd does not accept the token that it just gave; check its --auth-token",
    "permission denied": "grant the user's role 'readwrite' (to readers 'read') on the whole prefix",
    "CommonName of client": "its gateway takes only client certificates without a CommonName; issue one with O= alone",
    "space exceeded": "its quota is used up: compact, defragment, then `etcdctl alarm disarm`",
    "connection closed": NO_USAGE,
    "connection error": NO_USAGE,
    "closed network connection": NO_USAGE,
    "SubConns are in": NO_USAGE,
}

T = TypeVar("T")


class KeyValue(msgspec.Struct):
    """One key with its value, the revision of its last change, and its lease."""

    key: bytes
    value: bytes = b""
    mod_revision: int = 0
    lease: int = 0


class Header(msgspec.Struct):
    """The revision of the whole store when it answered."""

    revision: int = 0


class Range(msgspec.Struct):
    """What a range request found; `more` when there was more than its limit."""

    header: Header = msgspec.field(default_factory=Header)
    kvs: list[KeyValue] = []
    more: bool = False


class Response(msgspec.Struct):
    """The answer to one operation of a transaction."""

    response_range: Range | None = None


class Transaction(msgspec.Struct):
    """Whether the comparison held, and the answers of the branch that was taken."""

    header: Header = msgspec.field(default_factory=Header)
    succeeded: bool = False
    responses: list[Response] = []

    def found(self) -> Iterator[KeyValue]:
        """Every key that its range requests found."""
        for response in self.responses:
            if response.response_range is not None:
                yield from response.response_range.kvs


class Grant(msgspec.Struct):
    """A new lease."""

    ID: int


class Nothing(msgspec.Struct):
    """An answer of which only the success matters."""


class Token(msgspec.Struct):
    """The answer to a name and password."""

    token: str


class Event(msgspec.Struct):
    """One change; `type` is PUT or DELETE."""

    kv: KeyValue
    type: str = "PUT"


class Watched(msgspec.Struct):
    """One message of a watch; `fragment` when the rest of the same revisions is still to come."""

    header: Header = msgspec.field(default_factory=Header)
    canceled: bool = False
    cancel_reason: str = ""
    compact_revision: int = 0
    fragment: bool = False
    events: list[Event] = []


class Failure(msgspec.Struct):
    """Why a call failed, with the gRPC status; etcd's versions differ in their other fields."""

    message: str = ""
    code: int = 0
    grpc_code: int = 0


class Failed(Failure):
    """The whole answer to a call that failed; that of a watch has the failure one level deeper."""

    error: Failure | str = ""


class Line(msgspec.Struct):
    """One line of a watch's endless answer."""

    result: Watched | None = None
    error: Failure | None = None


class Unavailable(ConnectionError):  # noqa: N818
    """No endpoint, or not this one, can serve now; `leaderless` when it answers, but is cut off from the others."""

    def __init__(self, message: str, *, leaderless: bool = False) -> None:
        super().__init__(message)
        self.leaderless = leaderless


class TooMuch(Exception):  # noqa: N818 - named after what the caller learns
    """The answer is larger than we read."""


class Refused(RetryLater):
    """etcd understood and said no; `seconds` is 60 where asking again soon cannot help, else 0."""

    def __init__(self, message: str, code: int = 0) -> None:
        hinted = _hinted(message)
        super().__init__(LONG if hinted != message or code in (DENIED, EXHAUSTED, TOKEN) else 0.0, hinted)
        self.code = code
        # after a restart etcd knows no token; after a change of rights it wants a newer one
        self.token_lost = code == TOKEN or "user name is empty" in message or "auth store is old" in message


def _hinted(message: str) -> str:
    return message + next((f"; {hint}" for words, hint in HINTS.items() if words in message), "")


def decode(answer: bytes, kind: type[T]) -> T:
    """A message of that kind; raises Unavailable quoting what is none, as of a server that is not etcd."""
    try:
        return msgspec.json.decode(answer, type=kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unavailable(f"answered {answer[:60]!r}, which is not etcd 3.4 or newer ({error})") from error


def decode_line(line: bytes) -> Watched:
    """One message of a watch; raises Unavailable for an error in the stream, `no leader` for one."""
    message = decode(line, Line)
    if message.result is None:
        raise Unavailable(message.error.message if message.error else f"sent {line[:60]!r} in a watch")
    return message.result


def refusal(status: int, answer: bytes, what: str) -> Unavailable | Refused:
    """The error in an answer that is not HTTP 200: Unavailable where another endpoint may do better, else Refused."""
    try:
        whole = msgspec.json.decode(answer, type=Failed, strict=False)
        failure: Failure = whole.error if isinstance(whole.error, Failure) else whole
    except (msgspec.DecodeError, UnicodeDecodeError):
        failure = Failure(f"HTTP {status} {answer[:60]!r}; is this the client port of etcd 3.4 or newer?")
    if status >= 500:
        return Unavailable(_hinted(failure.message), leaderless="no leader" in failure.message)
    return Refused(f"{what}: {failure.message}", failure.code or failure.grpc_code)
