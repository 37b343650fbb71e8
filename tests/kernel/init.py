"""The guest's first process: mount what Linux needs, run the checks, say how they ended, switch off."""

import ctypes
import os
import sys
import traceback
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)


def mount(kind, target):
    Path(target).mkdir(parents=True, exist_ok=True)
    if libc.mount(kind.encode(), target.encode(), kind.encode(), 0, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target}")


def power_off():
    os.sync()
    libc.reboot(0x4321FEDC)  # LINUX_REBOOT_CMD_POWER_OFF


def main():
    os.environ["PATH"] = "/usr/bin"
    sys.path[:0] = ["/project", "/project/tests/kernel", "/project/tests/unit", "/packages"]
    for kind, target in (
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
    ):
        mount(kind, target)
    print()  # ends what the firmware left on the line
    import guest

    return guest.main()


code = 1
try:
    code = main()
except BaseException:  # noqa: BLE001 - the first process may not end before the machine is off
    traceback.print_exc()
finally:
    print(f"guest: exit {code}", flush=True)
    power_off()
