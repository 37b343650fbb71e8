"""MQTT on loopback, mosquitto: put, get, put to push, the time to an error, what importing costs.

`python -m tests.bench.bench_backend_mqtt [COUNT]` from the project's root. One line of JSON each.
"""

from __future__ import annotations

from tests.backends.mqttserver import Mosquitto
from tests.bench.stores import asked, importing, in_folder, measure
from wgdisco.backends.mqtt import MQTT

if __name__ == "__main__":
    importing("mqtt", "wgdisco.backends.mqtt, aiomqtt")
    with in_folder(Mosquitto) as server:
        measure("mqtt", lambda: MQTT(host="127.0.0.1", port=server.port), server, asked())
