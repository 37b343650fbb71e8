"""PCP and NAT-PMP messages against the figures of RFC 6887 and RFC 6886, written out here."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgdisco.endpoint import Endpoint
from wgdisco.sources._portmap_pcp import (
    Epoch,
    Reply,
    natpmp_address,
    natpmp_map,
    pcp_announce,
    pcp_map,
    read_natpmp,
    read_pcp,
)
from wgdisco.sources._portmap_upnp import location

US, US6 = ip_address("192.168.1.10"), ip_address("2001:db8:1::a")
NONCE = bytes(range(12))
SAME = NONCE.hex()
PORT = 51820  # ca6c
OURS = "00000000000000000000ffff" + "c0a8010a"
NOTHING = "00000000000000000000ffff" + "00000000"
OUTSIDE = "00000000000000000000ffff" + "c6336407"  # 198.51.100.7


def answer(result="00", nonce=SAME, protocol="11", port="ca6c", head="0281", lifetime="00000e10", outer=OUTSIDE):
    """RFC 6887 figures 3 and 10."""
    header = f"{head}00{result}{lifetime}000003e8" + 12 * "00"
    return bytes.fromhex(header + f"{nonce}{protocol}000000{port}1234{outer}")


def test_a_pcp_request_is_figures_2_and_9() -> None:
    header = "02 01 0000 00000e10" + OURS
    body = NONCE.hex() + "11 000000 ca6c ca6c" + NOTHING
    assert pcp_map(US, NONCE, PORT, 3600) == bytes.fromhex(header + body)
    assert len(pcp_map(US, NONCE, PORT, 3600)) == 60


def test_a_pcp_request_asks_for_what_it_had() -> None:
    body = NONCE.hex() + "11 000000 ca6c 1234" + OUTSIDE
    assert pcp_map(US, NONCE, PORT, 3600, Endpoint.parse("198.51.100.7:4660"))[24:] == bytes.fromhex(body)


def test_a_pcp_request_for_ipv6_names_whole_addresses() -> None:
    header = "02 01 0000 00000e10 20010db800010000000000000000000a"
    body = NONCE.hex() + "11 000000 ca6c ca6c" + 32 * "0"
    assert pcp_map(US6, NONCE, PORT, 3600) == bytes.fromhex(header + body)


def test_a_pcp_request_of_lifetime_0_suggests_nothing() -> None:
    """RFC 6887 section 15.1: the suggested external port and address are zero."""
    body = NONCE.hex() + "11 000000 ca6c 0000" + NOTHING
    assert pcp_map(US, NONCE, PORT, 0) == bytes.fromhex("02 01 0000 00000000" + OURS + body)


def test_an_announcement_is_a_header_alone() -> None:
    assert pcp_announce(US) == bytes.fromhex("02 00 0000 00000000" + OURS)


def test_a_pcp_answer_says_where_the_router_receives_for_us() -> None:
    assert read_pcp(answer(), NONCE, PORT) == Reply("SUCCESS", 1000, 3600, ip_address("198.51.100.7"), 0x1234)
    assert read_pcp(answer(outer=US6.packed.hex()), NONCE, PORT) == Reply("SUCCESS", 1000, 3600, US6, 0x1234)


def test_an_endless_lifetime_counts_as_a_day() -> None:
    assert read_pcp(answer(lifetime="ffffffff"), NONCE, PORT).lifetime == 86400
    assert read_natpmp(bytes.fromhex("0081 0000 000003e8 ca6c 1234 ffffffff"), PORT).lifetime == 86400


@pytest.mark.parametrize(
    "data",
    [
        answer(nonce=24 * "f"),
        answer(port="ca6d"),
        answer(protocol="06"),
        answer(head="0201"),
        answer(head="0282"),
        answer()[:59],
        answer()[:23],
        b"",
        b"\x02",
        pcp_map(US, NONCE, PORT, 3600),
    ],
    ids=["nonce", "port", "protocol", "request", "opcode", "short", "shorter", "empty", "byte", "echo"],
)
def test_what_is_no_answer_to_our_pcp_request_is_none(data) -> None:
    assert read_pcp(data, NONCE, PORT) is None


@pytest.mark.parametrize(
    ("code", "name"),
    list(
        enumerate(
            [
                "SUCCESS",
                "UNSUPP_VERSION",
                "NOT_AUTHORIZED",
                "MALFORMED_REQUEST",
                "UNSUPP_OPCODE",
                "UNSUPP_OPTION",
                "MALFORMED_OPTION",
                "NETWORK_FAILURE",
                "NO_RESOURCES",
                "UNSUPP_PROTOCOL",
                "USER_EX_QUOTA",
                "CANNOT_PROVIDE_EXTERNAL",
                "ADDRESS_MISMATCH",
                "EXCESSIVE_REMOTE_PEERS",
                "result 14",
            ]
        )
    ),
)
def test_pcp_results_have_the_names_of_section_7_4(code, name) -> None:
    assert read_pcp(answer(f"{code:02x}"), NONCE, PORT).result == name


def test_a_refusal_may_be_a_header_alone() -> None:
    assert read_pcp(answer("03")[:24], NONCE, PORT) == Reply("MALFORMED_REQUEST", 1000)


@pytest.mark.parametrize(
    "data", ["0081 0001 000003e8", "0101 0001 000003e8", "01810001 00000000 000003e8"], ids=["NAT-PMP", "odd", "PCP 1"]
)
def test_a_router_of_another_version_is_understood(data) -> None:
    """RFC 6886 section 3.5 and RFC 6887 section 9, unless the response bit is missing."""
    said = read_pcp(bytes.fromhex(data), NONCE, PORT)
    assert said == (None if data.startswith("0101") else Reply("UNSUPP_VERSION"))


def test_an_answered_announcement_gives_the_epoch() -> None:
    assert read_pcp(bytes.fromhex("0280 00 00 00000000 000003e8" + 12 * "00")) == Reply("SUCCESS", 1000)
    assert read_pcp(answer()) is None


def test_natpmp_requests_are_the_figures_of_section_3() -> None:
    assert natpmp_address() == bytes.fromhex("0000")
    assert natpmp_map(PORT, 0x1234, 3600) == bytes.fromhex("00 01 0000 ca6c 1234 00000e10")


def test_natpmp_answers_are_the_figures_of_section_3() -> None:
    address = bytes.fromhex("00 80 0000 000003e8 c6336407")
    assert read_natpmp(address) == Reply("SUCCESS", 1000, address=ip_address("198.51.100.7"))
    mapped = bytes.fromhex("00 81 0000 000003e8 ca6c 1234 00000e10")
    assert read_natpmp(mapped, PORT) == Reply("SUCCESS", 1000, 3600, None, 0x1234)


@pytest.mark.parametrize(
    ("code", "name"),
    list(
        enumerate(
            [
                "SUCCESS",
                "UNSUPP_VERSION",
                "Not Authorized/Refused",
                "Network Failure",
                "Out of resources",
                "Unsupported opcode",
                "result 6",
            ]
        )
    ),
)
def test_natpmp_results_have_the_names_of_section_3_5(code, name) -> None:
    assert read_natpmp(bytes.fromhex(f"00 81 {code:04x} 000003e8 ca6c 1234 00000e10"), PORT).result == name


@pytest.mark.parametrize(
    "data",
    [
        "0081 0000 000003e8 ca6d 1234 00000e10",
        "0082 0000 000003e8 ca6c 1234 00000e10",
        "0001 0000 000003e8 ca6c 1234 00000e10",
        "0081 0000 000003e8 ca6c 1234 00000e",
        "0081 0000 0000",
        "0080 0000 000003e8 c6336407",
        "",
    ],
    ids=["port", "TCP", "request", "short", "shorter", "address", "empty"],
)
def test_what_is_no_answer_to_our_natpmp_request_is_none(data) -> None:
    assert read_natpmp(bytes.fromhex(data), PORT) is None


@given(data=st.binary(max_size=100), begin=st.sampled_from([b"", b"\x02\x81\0\0", b"\0\x80\0\0", b"\0\x81\0\0"]))
def test_no_datagram_raises(data, begin) -> None:
    for read in (read_pcp, lambda data: read_pcp(data, NONCE, PORT), read_natpmp, lambda data: read_natpmp(data, PORT)):
        assert isinstance(read(begin + data), Reply | None)


@pytest.mark.parametrize(
    ("theirs", "ours", "continues"),
    [
        (1000, 0, True),
        (1060, 60, True),
        (999, 0, True),  # a second back is rounding
        (998, 0, False),
        (3, 60, False),
        (1001, 60, False),  # it stood still: so it was not there
        (1055, 60, True),
        (1065, 60, True),
        (1070, 60, False),
        (1000 + 3600, 3500, True),
        (1000 + 3600, 3300, False),
    ],
)
def test_the_epoch_tells_a_reboot_by_section_8_5(theirs, ours, continues) -> None:
    assert Epoch(theirs, 7.0 + ours).continues(Epoch(1000, 7.0)) is continues


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://192.168.1.1:5000/rootDesc.xml", True),
        ("http://192.168.1.1/", True),
        ("http://192.168.1.1:5000", False),
        ("http://192.168.1.10:5000/rootDesc.xml", False),
        ("http://192.168.1.1:80@192.0.2.1/", False),
        ("http://192.168.1.1.example.org/", False),
        ("http://example.org/192.168.1.1/", False),
        ("http://127.0.0.1:5000/", False),
        ("https://192.168.1.1/", False),
        ("file:///192.168.1.1/", False),
        ("HTTP://192x168.1.1/", False),
        ("http://192.168.1.1/a b", False),
    ],
)
def test_a_description_is_read_from_the_router_alone(url, good) -> None:
    reply = f"HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLocation:  {url}\r\nEXT:\r\n\r\n".encode()
    assert location(reply, ip_address("192.168.1.1")) == (url if good else None)


def test_an_answer_without_a_location_leads_nowhere() -> None:
    assert location(b"HTTP/1.1 200 OK\r\n\r\n\xff\x00", ip_address("192.168.1.1")) is None
