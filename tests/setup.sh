#!/bin/sh
# Installs the Debian packages that the named parts need (as root, and says so), or prints the line to type.
# usage: tests/setup.sh [venv] [lab] [servers] [contrib] [kernel]
set -eu
wanted=""
need() { # need PROGRAM PACKAGE
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || wanted="$wanted $2"
}
for part in "$@"; do
    case $part in
    venv)
        command -v "${PYTHON:-python3}" >/dev/null 2>&1 || wanted="$wanted python3"
        "${PYTHON:-python3}" -c "import ensurepip, venv" 2>/dev/null || wanted="$wanted python3-venv"
        ;;
    lab)
        need ip iproute2
        need nft nftables
        need wireguard-go wireguard-go
        need wg wireguard-tools
        need ethtool ethtool
        need ping iputils-ping
        need miniupnpd miniupnpd-nftables
        need ps procps
        need unshare util-linux
        ;;
    servers)
        need etcd etcd-server
        need etcdctl etcd-client
        need named bind9
        need knotd knot
        need mosquitto mosquitto
        need redis-server redis-server
        need nats-server nats-server
        need nginx nginx-light
        need openssl openssl
        need jq jq
        ;;
    contrib)
        need systemd-analyze systemd
        need mandoc mandoc
        need zsh zsh
        need fish fish
        need shellcheck shellcheck
        ;;
    kernel)
        need qemu-system-x86_64 qemu-system-x86
        ;;
    *)
        echo "setup.sh: unknown part '$part'; expected venv, lab, servers, contrib or kernel" >&2
        exit 2
        ;;
    esac
done
[ -n "$wanted" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing Debian packages:$wanted"
    export DEBIAN_FRONTEND=noninteractive
    # services that Debian would start at installation are not wanted: the tests start their own
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
        trap 'rm -f $policy' EXIT
    fi
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    apt-get install -y -qq --no-install-recommends $wanted >/dev/null
else
    echo "missing Debian packages; install them with: sudo apt-get install --no-install-recommends$wanted" >&2
    echo "(what needs them is skipped)" >&2
fi
