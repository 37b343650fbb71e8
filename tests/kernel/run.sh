#!/bin/sh
# The interface code on Debian's kernel WireGuard, in QEMU; see run.py. PYTHON is the interpreter that goes into the guest.
set -eu
here=$(dirname "$0")
exec "${PYTHON:-$here/../../.venv/bin/python}" "$here/run.py" "$@"
