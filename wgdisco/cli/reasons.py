"""Why a peer is not connected: a table of rules over what is known, the first that fits is the likely reason.

The rules stand in the order of certainty: what is wrong on this host, then with the stores, then with the peer's
record, then with the path. Each is a pure function of a `Case`.
"""

from __future__ import annotations

from collections.abc import Callable

from wgdisco.cli.case import Case, Reason
from wgdisco.cli.show import ago, printable, span
from wgdisco.report import CandidateReport, age

__all__ = ["RULES", "likely", "works"]

SESSION = 180.0  # seconds after which WireGuard takes nothing more from a session (REJECT_AFTER_TIME)
QUIET = 60.0  # seconds without a byte that are worth a remark
AHEAD = 5.0  # seconds of clock difference that are no accident
EARLY = 5.0  # seconds for which nothing has to have worked yet


Rule = Callable[[Case], Reason | None]


def likely(case: Case) -> Reason:
    """The first rule's reason that fits; there always is one."""
    return next(reason for rule in RULES if (reason := rule(case)) is not None)


def works(reason: Reason) -> bool:
    """Whether that is no reason for concern."""
    return reason.name == "connected"


# ---- this host


def _agent(case: Case) -> Reason | None:
    """An agent that says nothing, or died: whatever it said last is no longer true."""
    interface, quiet = case.report.interface, span(age(case.report.written, case.now))
    if case.health == "hanging":
        text = f"the agent of {interface} hangs: it has written nothing for {quiet}"
        return Reason("agent", text, f"restart it: systemctl restart wgdisco@{interface}")
    if case.health in ("dead", "stopped"):
        return Reason("agent", f"the agent of {interface} is {case.health}", f"wgdisco run -i {interface}")
    if case.health == "waiting":
        trouble = printable(case.report.trouble) or "it cannot be used"
        text = f"the agent waits for its interface {interface}: {trouble}"
        return Reason("interface", text, f"wg show {interface}")
    return None


def _connected(case: Case) -> Reason | None:
    if case.peer.state != "connected":
        return None
    if case.agent == "none":
        text = "connected; no agent runs, so nobody mends it when an address changes"
        return Reason("connected", text, f"wgdisco run -i {case.report.interface}")
    step = f"nothing to do; see it live: wgdisco status -i {case.report.interface} --watch"
    if case.quiet is not None and case.quiet > QUIET:
        silent = f"; nothing came in for {span(case.quiet)}, as is normal when nobody sends"
        return Reason(
            "connected",
            f"connected{silent}",
            "ping an address of its allowed-ips; without an answer compare the allowed-ips of both sides",
        )
    return Reason("connected", "connected; all is well", step)


def _silent(case: Case) -> Reason | None:
    """A handshake, and nothing after it."""
    shaken = case.peer.handshake
    if not shaken or age(shaken, case.now) > SESSION or case.quiet is None or case.quiet <= QUIET:
        return None
    return Reason(
        "silent",
        f"a handshake came about {ago(case.now - shaken)}, but nothing came in for {span(case.quiet)}: the path has "
        "died, or one side drops what the other sends",
        "ping an address of its allowed-ips; compare the allowed-ips of both sides and their firewalls",
    )


def _idle(case: Case) -> Reason | None:
    """No session, because nobody has anything to say."""
    if case.peer.state != "idle":
        return None
    return Reason(
        "idle",
        "no session, since neither side sends anything; WireGuard connects when one does",
        "ping an address of its allowed-ips; to be connected all the time, set a persistent keepalive",
    )


def _clock(case: Case) -> Reason | None:
    """Clocks that differ: records from the future are refused beyond 300 s, and age wrongly below."""
    theirs = 0.0 if case.peer.record is None else case.peer.record.issued - case.now
    step = "on both hosts: timedatectl (or date -u); set the clock that is wrong"
    if case.report.issued - case.now > AHEAD:
        ahead = span(case.report.issued - case.now)
        return Reason("clock", f"our record is {ahead} ahead of our own clock: the clock was set back", step)
    if case.peer.refused.get("future"):
        return Reason(
            "clock", "its record was refused because it is from the future: one of the two clocks is off", step
        )
    if theirs > AHEAD:
        return Reason("clock", f"its record is {span(theirs)} ahead of our clock: one of the two clocks is off", step)
    return None


# ---- the stores


def _stores(case: Case) -> Reason | None:
    """No backend answers: then neither side learns anything of the other."""
    if not case.report.backends:
        text = "no backend is in use"
        return Reason("stores", text, f"choose one in /etc/wgdisco/{case.report.interface}.toml; see: wgdisco backends")
    if not all(each.error for each in case.report.backends):
        return None
    errors = "; ".join(
        f"{each.name}: {printable(each.error.removeprefix(f'{each.name}: '))}" for each in case.report.backends
    )
    return Reason("stores", f"no backend answers ({errors})", f"wgdisco check -i {case.report.interface}")


def _early(case: Case) -> Reason | None:
    """What was begun a moment ago may still work."""
    began = case.peer.since or case.report.since
    if case.agent == "reports" and age(began, case.now) < EARLY and case.peer.state in ("connecting", "searching"):
        text = f"{case.peer.state} for {span(age(began, case.now))} only"
        return Reason("early", text, f"wait a few seconds and ask again: wgdisco why {case.peer.key}")
    return None


def _unstored(case: Case) -> Reason | None:
    """Nobody can find us."""
    step = f"wgdisco publish -i {case.report.interface} (it says what each store made of it)"
    if case.agent == "none":
        step = f"wgdisco run -i {case.report.interface}"
    if not case.report.issued:
        return Reason("unstored", "we have no record in any store, so the peer cannot find us", step)
    if case.report.ends < case.now:
        text = f"our own record expired {ago(case.now - case.report.ends)}, so the peer cannot find us"
        return Reason("unstored", text, step)
    if not any(each.stored for each in case.report.backends):
        return Reason("unstored", "no backend has stored our record, so the peer cannot find us", step)
    return None


# ---- the peer's record


def _unknown(case: Case) -> Reason | None:
    """Nothing of the peer in any store, or nothing that is valid."""
    if case.peer.record is not None:
        return None
    if case.peer.refused:
        found = ", ".join(f"{count} {printable(reason)}" for reason, count in sorted(case.peer.refused.items()))
        step = "on the peer: wgdisco status; does it run, and what does its clock say?"
        if set(case.peer.refused) == {"expired"}:
            return Reason("expired", "the stores hold nothing of it but what has expired", step)
        return Reason("refused", f"what the stores hold of it is not valid ({found})", step)
    ours = f" {case.report.key}" if case.report.key else ""
    return Reason(
        "unknown",
        f"no store has a record of {case.short}: wgdisco does not run there, uses other stores, or has not our key",
        f"on the peer: wgdisco status; its stores have to share one with ours ({case.stores}), "
        f"and wg show has to list our key{ours}",
    )


def _expired(case: Case) -> Reason | None:
    record = case.peer.record
    if record is None or record.ends >= case.now:
        return None
    text = (
        f"its record expired {ago(case.now - record.ends)}: wgdisco no longer runs there, or reaches none of our stores"
    )
    return Reason("expired", text, "on the peer: wgdisco status")


def _left(case: Case) -> Reason | None:
    record = case.peer.record
    if record is None or record.candidates:
        return None
    text = f"it said that it is leaving {ago(case.now - record.issued)}"
    return Reason("left", text, "start it again on the peer: wgdisco run, or wgdisco connect")


# ---- the path


def _skipped(case: Case) -> Reason | None:
    """Every candidate of the peer is one that must not, or cannot, be tried from here."""
    candidates = () if case.peer.record is None else case.peer.record.candidates
    if not candidates or any(each.result != "not tried" for each in candidates):
        return None
    reasons = ", ".join(dict.fromkeys(printable(each.reason) or "no reason given" for each in candidates))
    text = f"none of its {len(candidates)} candidates can be tried from here ({reasons})"
    return Reason("skipped", text, "on the peer: wgdisco endpoints; one of them has to be reachable from here")


def _impossible(case: Case) -> Reason | None:
    if not case.verdict or _answered(case):
        return None
    step = (
        "on one side let the router forward a UDP port to WireGuard (wgdisco run --portmap asks it; or by hand, with "
        "--endpoint ADDRESS:PORT), use IPv6, or route through a third peer"
    )
    return Reason("impossible", f"this pair cannot be connected directly: {printable(case.verdict)}", step)


def _keys(case: Case) -> Reason | None:
    """The path works and WireGuard does not: that is what its keys are about."""
    if not (answered := _answered(case)):
        return None
    if any(each.at and age(each.at, case.now) < EARLY for each in answered):
        text = f"{answered[0].endpoint} has just answered our check; the handshake comes next"
        return Reason("early", text, f"wait a few seconds and ask again: wgdisco why {case.peer.key}")
    return Reason(
        "keys",
        f"{answered[0].endpoint} answered our check, but no handshake came about: the keys of the two sides differ",
        f"on both: wg show; has the other side our key {case.report.key or '(wg show)'} as a peer, "
        "and do both have the same preshared key or none?",
    )


def _alone(case: Case) -> Reason | None:
    """Everything that is known is well, but nobody is connecting."""
    if case.agent == "reports":
        return None
    if case.agent == "silent":
        text = (
            f"the agent of {case.report.interface} does not report on this peer: it was added a moment ago, or there "
            "are so many peers that those alone are connected that are in use"
        )
        return Reason("idle", text, "ping an address of its allowed-ips, then ask again")
    text = f"no agent runs on {case.report.interface}, so nobody connects to it"
    return Reason("alone", text, f"wgdisco run -i {case.report.interface}, or once: wgdisco connect {case.peer.key}")


def _unanswered(case: Case) -> Reason | None:
    candidates = () if case.peer.record is None else case.peer.record.candidates
    asked = [each for each in candidates if each.result == "no answer"]
    if not asked:
        return None
    checks = (
        "" if case.peer.record is None or case.peer.record.checks else " (it answers no checks: no agent runs there)"
    )
    return Reason(
        "unanswered",
        f"none of the {len(asked)} candidates tried has answered{checks}: a firewall, or it has moved since its record",
        "on the peer: wgdisco endpoints; its firewall has to let UDP in to WireGuard's port",
    )


def _nothing(case: Case) -> Reason:
    last = f"; what was done last: {printable(case.peer.last)}" if case.peer.last else ""
    step = f"wgdisco status -i {case.report.interface} --watch"
    return Reason("nothing", f"nothing is known to be wrong yet{last}", step)


def _answered(case: Case) -> list[CandidateReport]:
    """The peer's candidates that answered a check."""
    candidates = () if case.peer.record is None else case.peer.record.candidates
    return [each for each in candidates if each.result == "answered"]


RULES: tuple[Rule, ...] = (
    _agent,
    _connected,
    _silent,
    _idle,
    _clock,
    _stores,
    _early,
    _unstored,
    _unknown,
    _expired,
    _left,
    _skipped,
    _impossible,
    _keys,
    _alone,
    _unanswered,
    _nothing,
)
