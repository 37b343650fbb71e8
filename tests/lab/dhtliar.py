"""A node of the DHT that says to have seen everybody at one false place: python dhtliar.py ADDRESS PORT FALSE."""

from __future__ import annotations

import socket
import sys

from wgdisco.bep44.krpc import Query, Reply, read
from wgdisco.endpoint import Endpoint

address, port, false = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
    node.bind((address, int(port)))
    print("ready", flush=True)
    while True:
        data, source = node.recvfrom(2048)
        message = read(data)
        if isinstance(message, Query):
            node.sendto(Reply(message.transaction, {b"id": bytes(20)}, Endpoint.parse(false)).encode(), source)
