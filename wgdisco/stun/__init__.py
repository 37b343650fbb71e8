"""STUN (RFC 8489, and RFC 5780 for the behaviour of a NAT): bytes in, Message out, and back. Sans I/O.

Only the binding method exists here. What is not in the table of attributes is skipped when it is optional, and listed
in `Message.unknown` when its sender insists on being understood.
"""

from wgdisco.stun.attributes import COOKIE, Attribute, Change, StunError
from wgdisco.stun.message import Integrity, Message, Type, decode, encode

__all__ = ["COOKIE", "Attribute", "Change", "Integrity", "Message", "StunError", "Type", "decode", "encode"]
