"""The Mainline DHT as a store of signed values: a client and a storing node (BEP 5, 32, 42, 43, 44).

`Node` is all that most callers need: `start`, `bootstrap`, then `get` and `put` of `Item`s. `serve` runs a storing
node until it is cancelled. Codecs, routing table, storage and lookup rules are sans I/O, one module each.
"""

from wgdisco.bep44.item import Item
from wgdisco.bep44.node import NoAnswer, Node
from wgdisco.bep44.serve import serve
from wgdisco.bep44.writer import Stored

__all__ = ["Item", "NoAnswer", "Node", "Stored", "serve"]
