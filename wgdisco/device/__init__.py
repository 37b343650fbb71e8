"""The WireGuard interface: read it, and change endpoint and keepalive of peers that exist."""
