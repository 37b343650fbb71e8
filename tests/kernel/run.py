"""Run the interface code on Debian's kernel WireGuard, in QEMU without KVM: one line per check, the exit code tells.

usage: run.py [--record FILE] [CHECK ...]
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import image

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / ".kernel"
META = "linux-image-cloud-amd64"
LIMIT = 900  # seconds for the whole guest


def main():
    arguments = _arguments()
    if platform.machine() != "x86_64":
        sys.exit("make kernel is written for x86_64: elsewhere QEMU would need another kernel package")
    _need_qemu()
    CACHE.mkdir(exist_ok=True)
    tree = _kernel()
    initramfs = CACHE / "initramfs.cpio"
    initramfs.write_bytes(image.build(tree, PROJECT))
    (vmlinuz,) = tree.glob("boot/vmlinuz-*")
    print(f"guest: {vmlinuz.name.removeprefix('vmlinuz-')}, {initramfs.stat().st_size >> 20} MB of files", flush=True)
    return _boot(vmlinuz, initramfs, arguments)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--record", type=Path, help="write netlink's bytes of a small interface there, for the unit tests"
    )
    parser.add_argument("checks", nargs="*", help="only the checks with these words in their names")
    return parser.parse_args()


def _need_qemu():
    if shutil.which("qemu-system-x86_64"):
        return
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "qemu-system-x86"]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"QEMU is missing; install it with: sudo {' '.join(install)}")
    print(f"[#] {' '.join(install)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run("apt-get", "update", "-qq")
    _run(*install, env=environment)


def _run(*command, **options):
    """Run a command; when it fails, what it said ends the whole."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr.strip()}")
    return done.stdout


def _kernel():
    """The unpacked package of Debian's cloud kernel, downloaded once and never installed."""
    trees = sorted(CACHE.glob("linux-image-*/boot/vmlinuz-*"))
    if trees:
        return trees[-1].parents[1]
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        sys.exit(f"apt-get and dpkg-deb are needed to get Debian's kernel ({META})")
    package = _package()
    print(f"[#] apt-get download {package}", flush=True)
    _run("apt-get", "download", "-qq", package, cwd=CACHE)
    (archive,) = CACHE.glob(f"{package}_*.deb")
    unpacked = CACHE / "unpacking"
    _run("dpkg-deb", "-x", archive, unpacked)
    archive.unlink()
    return unpacked.rename(CACHE / package)


def _package():
    """The package that the metapackage stands for at the moment."""
    for update in (False, True):
        if update and os.geteuid() == 0:
            _run("apt-get", "update", "-qq")
        names = [
            line.split()[-1]
            for line in _run("apt-cache", "depends", META).splitlines()
            if "Depends: linux-image-" in line
        ]
        if names:
            return names[0]
    sys.exit(f"apt knows no package {META}: on Debian run `apt-get update`")


def _boot(vmlinuz, initramfs, arguments):
    words = ["console=ttyS0", "quiet", "loglevel=3", "panic=-1", "random.trust_cpu=on", "--", *arguments.checks]
    if arguments.record:
        words.append("--record")
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024"]
    command += ["-cpu", "max", "-nographic", "-no-reboot", "-nic", "none", "-kernel", vmlinuz, "-initrd", initramfs]
    process = subprocess.Popen(
        [*command, "-append", " ".join(words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    timer = threading.Timer(LIMIT, process.kill)
    timer.start()
    try:
        return _relay(process.stdout, arguments.record)
    finally:
        timer.cancel()
        process.kill()
        process.wait()


def _relay(lines, record):
    """Print what the guest says, keep what it recorded, and return its exit code; 1 when it never said one."""
    code, recorded = 1, []
    for line in map(str.rstrip, lines):
        if line.startswith("guest: exit "):
            code = int(line.split()[-1])
            break
        if line.startswith("record: "):
            recorded.append(line.removeprefix("record: "))
        elif line and "\x1b" not in line and not line.startswith("Booting from"):  # what SeaBIOS says
            print(line, flush=True)
    if record:
        record.write_text("\n".join(recorded) + "\n")
    print(f"kernel: {'all checks passed' if code == 0 else 'FAILED'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
