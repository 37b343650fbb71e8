"""The WireGuard interface: read it, and change endpoint and keepalive of peers that exist.

```
device = open_device("wg0")
interface = device.read()
device.update([Change(key, endpoint, keepalive=0), Change(key, keepalive=25)])  # also sends a packet at once
```
"""

from __future__ import annotations

from wgdisco.device.find import list_devices, open_device
from wgdisco.device.restart import LIVE, LiveSession, is_live
from wgdisco.device.types import Change, Device, Interface, Network, Peer

__all__ = [
    "LIVE",
    "Change",
    "Device",
    "Interface",
    "LiveSession",
    "Network",
    "Peer",
    "is_live",
    "list_devices",
    "open_device",
]
