"""The guest's file system (an initramfs) made of this machine's own files: Python, its libraries, ip, wg, kernel modules.

Nothing is installed and no other archive is needed: what a program needs is what ldd(1) says, at the same paths.
"""

import lzma
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import files
from pathlib import Path

UNUSED = {
    "__pycache__",
    "config",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "site-packages",
    "dist-packages",
    "test",
    "tkinter",
    "turtledemo",
}
UNUSED_EXTENSIONS = ("_tkinter", "_test", "_ctypes_test", "xx", "_xx", "_dbm", "_gdbm")
DISTRIBUTIONS = ("pynacl", "cffi", "pycparser", "msgspec", "pluggy")
PROGRAMS = ("ip", "wg")
MODULES = ("wireguard", "veth")
SUFFIX = {"": bytes, ".xz": lzma.decompress}  # how Debian compresses modules


class Image:
    """An initramfs in the making: path in the guest -> (mode, contents)."""

    def __init__(self):
        self.entries = {}

    def add(self, path, contents, mode=0o100644):
        """A file, and the directories above it."""
        path = str(path).lstrip("/")
        for parent in reversed(Path(path).parents[:-1]):
            self.entries.setdefault(str(parent), (0o040755, b""))
        self.entries[path] = (mode, contents)

    def copy(self, source, target=None):
        """A file of this machine, at the same path unless told otherwise."""
        self.add(target or source, Path(source).read_bytes(), 0o100755)

    def pack(self):
        """The archive in cpio's "newc" form (initramfs buffer format, kernel.org)."""
        entries = {**self.entries, "dev/console": (0o020600, b"")}
        parts = [_member(number, name, *entry) for number, (name, entry) in enumerate(sorted(entries.items()), 1)]
        return b"".join([*parts, _member(0, "TRAILER!!!", 0, b"")])


def _member(number, name, mode, contents):
    major, minor = (5, 1) if name == "dev/console" else (0, 0)
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(contents), 0, 0, major, minor, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return head + bytes(-len(head) % 4) + contents + bytes(-len(contents) % 4)


def build(tree, project):
    """The image: `tree` is the unpacked kernel package, `project` this repository."""
    image = Image()
    for directory in ("dev", "proc", "sys", "run", "tmp", "etc"):
        image.entries[directory] = (0o040755, b"")
    binaries = [*_python(image), *(_program(image, name) for name in PROGRAMS)]
    for library in _libraries(binaries):
        image.copy(library)
    for path in [
        *project.glob("wgdisco/**/*.py"),
        *project.glob("tests/unit/*.py"),
        *project.glob("tests/kernel/*.py"),
    ]:
        image.copy(path, Path("project") / path.relative_to(project))
    for number, (name, contents) in enumerate(_modules(tree, MODULES)):
        image.add(f"modules/{number:02d}-{name}.ko", contents)
    python = os.path.realpath(sys.executable)
    image.add("init", f"#!{python} -B\n".encode() + (project / "tests/kernel/init.py").read_bytes(), 0o100755)
    return image.pack()


def _python(image):
    """This interpreter, its standard library and our dependencies; returns what ldd has to look at."""
    binaries = [Path(os.path.realpath(sys.executable))]
    image.copy(binaries[0])
    library = Path(sysconfig.get_paths()["stdlib"])
    wanted = [path for path in library.rglob("*") if _is_used(path.relative_to(library))]
    for name in DISTRIBUTIONS:
        wanted += [Path(file.locate()).resolve() for file in files(name) or [] if ".." not in file.parts]
    for path in wanted:
        if path.suffix in (".py", ".so") or ".so." in path.name:
            inside = path.is_relative_to(library) and "site-packages" not in path.parts
            image.copy(path, path if inside else Path("packages") / _below_site(path))
            binaries += [path] if path.suffix != ".py" else []
    return binaries


def _is_used(path):
    directories = {part.split("-")[0] if part.startswith("config-") else part for part in path.parts[:-1]}
    return not directories & UNUSED and not path.name.startswith(UNUSED_EXTENSIONS)


def _below_site(path):
    places = [index for index, part in enumerate(path.parts) if part in ("site-packages", "dist-packages")]
    return Path(*path.parts[places[-1] + 1 :])


def _program(image, name):
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if found is None:
        sys.exit(f"{name} is missing; install it with: sudo apt-get install iproute2 wireguard-tools")
    image.copy(found, f"usr/bin/{name}")
    return found


def _libraries(binaries):
    """Every shared library that the binaries load."""
    said = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False).stdout
    return {path for path in re.findall(r"(?:=> |^\s+)(/\S+) \(", said, re.MULTILINE) if path not in map(str, binaries)}


def _modules(tree, wanted):
    """Name and contents of the kernel modules wanted and of those they need, in the order to load them."""
    found = {re.sub(r"\.ko.*", "", path.name).replace("-", "_"): path for path in tree.rglob("*.ko*")}
    loaded = {}

    def load(name):
        if name in loaded or name not in found:
            return  # not found: it is built in
        contents = SUFFIX[found[name].suffix.replace(".ko", "")](found[name].read_bytes())
        needs = re.search(rb"\0depends=([^\0]*)\0", contents)
        for other in needs[1].decode().split(",") if needs and needs[1] else []:
            load(other.replace("-", "_"))
        loaded[name] = contents

    for name in wanted:
        load(name)
    return loaded.items()
