"""Records in hosted DNS: TXT records written over the API of a provider, by dns-lexicon in a thread of its own."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from wgdisco.backend import Secret, to_text
from wgdisco.backends._retry_after import retry_after
from wgdisco.blocking import BlockingBackend
from wgdisco.errors import ConfigError, MissingExtra, RetryLater, StoreError

if TYPE_CHECKING:
    from lexicon.interfaces import Provider

__all__ = ["Hosted"]

STRING = 255  # bytes of one string of a TXT record
ANSWER = 10.0  # seconds of silence after which a request is given up; dns-lexicon itself waits for ever
SHORTEST = 60  # seconds of TTL, less is refused by most providers
PAUSE = 60.0  # seconds to leave a provider alone that says only that it was asked too often
FETCHING = ("auto", "godaddy", "namecheap")  # these download the list of public suffixes
VERBS = ("request", "get", "post", "put", "patch", "delete", "head")


class Hosted(BlockingBackend):
    """Writes TXT records of one zone; whoever wrote last wins, since the APIs know no conditions."""

    name: ClassVar[str] = "dns"

    def __init__(self, provider: str, zone: str, auth: Mapping[str, Secret], options: Mapping[str, str]) -> None:
        """Take dns-lexicon's name of the provider, and its options: those that are secret, and the others."""
        self._name, self._zone, self._auth, self._options = provider, zone.rstrip(".").lower(), auth, options
        self._session: _Session | None = None

    def start(self) -> None:
        """Import dns-lexicon and the provider's module; raises MissingExtra or ConfigError. Nothing is asked yet."""
        self._module = _module(self._name)

    async def replace(self, name: str, blob: bytes, ttl: int) -> None:
        """Make the blob's text form the only TXT record of a name; raises StoreError, RetryLater or TimeoutError."""
        await self.aside(lambda writer: writer.call("write", name, _strings(to_text(blob)), ttl), urgent=True)

    async def delete(self, name: str) -> None:
        """Delete the TXT records of a name; raises StoreError, RetryLater or TimeoutError."""
        await self.aside(lambda writer: writer.call("wipe", name, SHORTEST), urgent=True)

    def call(self, what: str, name: str, *rest: Any) -> None:
        """One of `_Session`'s calls, with an error that says what to do and quotes no secret."""
        secrets = {key: secret.reveal().strip() for key, secret in self._auth.items()}
        try:
            getattr(self._signed_in(secrets, rest[-1]), what)(name, *rest[:-1])
        except Exception as error:  # noqa: BLE001 - the providers' modules raise what they like
            self._session = None
            failed = _explained(error, self._name, list(secrets.values()))
            # not chained: the text of the cause has the URL, and with some providers the URL has the token
            raise failed from None

    def _signed_in(self, secrets: dict[str, str], ttl: int) -> _Session:
        """The session; a new one when a secret or the TTL is another one now."""
        from lexicon.config import ConfigResolver

        given = ({**self._options, **secrets}, max(ttl, SHORTEST))
        if self._session is None or self._session.given != given:
            settings = {"provider_name": self._name, "domain": self._zone, "ttl": given[1], self._name: given[0]}
            # not by lexicon.client.Client, which downloads the list of public suffixes to guess the zone
            provider = self._module.Provider(ConfigResolver().with_dict(settings))  # type: ignore[no-untyped-call] # its constructor has no annotations
            provider.authenticate()
            self._session = _Session(provider, given)
        return self._session


class _Session(NamedTuple):
    """A provider that accepted the credentials, and what it was given."""

    provider: Provider
    given: tuple[dict[str, str], int]

    def write(self, name: str, content: str) -> None:
        """Change the first record, delete the others, or create one; what is there already is not written again."""
        there = self._there(name)
        for each in there[1:]:
            self._done(self.provider.delete_record(each["id"], "TXT", name, each["content"]))
        if not there:
            self._done(self.provider.create_record("TXT", name, content))
        elif _plain(there[0]["content"]) != _plain(content):
            self._done(self.provider.update_record(there[0]["id"], "TXT", name, content))

    def wipe(self, name: str) -> None:
        """Delete every TXT record of the name."""
        for each in self._there(name):
            self._done(self.provider.delete_record(each["id"], "TXT", name, each["content"]))

    def _there(self, name: str) -> list[dict[str, Any]]:
        """The TXT records of the name; some providers list more than they were asked for."""
        label = name.partition(".")[0]
        found = self.provider.list_records("TXT", name)
        return [each for each in found if each["type"] == "TXT" and each["name"].partition(".")[0].lower() == label]

    def _done(self, success: bool) -> None:
        if not success:
            raise StoreError("the provider did not carry out the change, and did not say why")


def _module(name: str) -> ModuleType:
    """The provider's module with a limit to each of its requests; raises MissingExtra or ConfigError."""
    try:
        from lexicon._private import discovery
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"provider {name!r} needs {error.name!r}; install it with: pip install 'wgdisco[lexicon]'"
        ) from error
    known = discovery.find_providers()
    if name not in known or name in FETCHING:
        fit = ", ".join(each for each in known if each not in FETCHING)
        raise ConfigError(f"provider {name!r}: expected a name that dns-lexicon has: {fit}")
    if not known[name]:
        raise MissingExtra(f"provider {name!r} needs more; install it with: pip install 'dns-lexicon[{name}]'")
    module = discovery.load_provider_module(name)
    if isinstance(getattr(module, "requests", None), ModuleType):
        vars(module)["requests"] = _limited()
    return module


def _limited() -> SimpleNamespace:
    """The library requests, but no request without a limit to the silence."""
    import requests

    class Session(requests.Session):
        def request(self, *args: Any, **options: Any) -> requests.Response:
            return super().request(*args, **{"timeout": ANSWER, **options})

    verbs = {verb: functools.partial(getattr(requests, verb), timeout=ANSWER) for verb in VERBS}
    return SimpleNamespace(**{**vars(requests), **verbs, "Session": Session, "session": Session})


def _strings(text: str) -> str:
    """The text as a TXT record in a zone file: strings in quotes."""
    return " ".join(f'"{text[start : start + STRING]}"' for start in range(0, len(text), STRING))


def _plain(content: str) -> str:
    """A record without quotes and gaps, neither of which the text form of a blob has."""
    return "".join(content.replace('"', "").split())


def _explained(error: Exception, provider: str, secrets: list[str]) -> Exception:
    """What the provider's error means; its text is quoted without the secrets."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _answered(error.response, provider, secrets)
    if isinstance(error, requests.RequestException):
        return StoreError(f"no answer from the API of {provider} ({type(error).__name__}); is it reachable?")
    if isinstance(error, StoreError):
        return error
    text = _without(secrets, str(error) or type(error).__name__)
    return StoreError(f"the provider {provider} failed: {text}; correct zone or provider_auth")


def _answered(response: Any, provider: str, secrets: list[str]) -> StoreError:
    status = response.status_code
    said = f"{provider} answered {status}: {_without(secrets, response.text)[:200].strip()!r}"
    if status == 429 or (status == 503 and "Retry-After" in response.headers):
        seconds = retry_after(response.headers.get("Retry-After"), PAUSE)
        return RetryLater(seconds, f"{said}; asked again in {seconds:g} s")
    if status in (401, 403):
        return StoreError(f"{said}; correct provider_auth, or grant the token the right to write DNS in the zone")
    return StoreError(said)


def _without(secrets: list[str], text: str) -> str:
    for secret in filter(None, secrets):
        text = text.replace(secret, "…")
    return text
