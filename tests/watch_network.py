"""Run a command where it can reach nothing but itself, and write down what it tried to reach.

In a network namespace of its own, every route but loopback's leads into a tunnel that this process
reads. So each packet for another machine is seen, whichever language sent it, and none arrives.
Names are looked up behind the tunnel, too.

    unshare --map-root-user --net --mount python tests/watch_network.py LOG COMMAND ...

LOG gets one line for each packet: protocol, address, port, and the name that was looked up.
Exit code 99 says that this machine can't do that.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
NAMESERVER = "198.51.100.53"  # of a range for documentation: nobody's
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp"}


def open_tunnel() -> int:
    """Return the end of a tunnel that all routes but loopback's lead into."""
    tunnel = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tunnel, TUNSETIFF, struct.pack("16sH22x", b"watched", IFF_TUN | IFF_NO_PI))
    for line in (
        "link set lo up",
        "link set watched addrgenmode none",
        "address add 198.51.100.1/24 dev watched",
        "-6 address add 2001:db8::1/64 dev watched nodad",
        "link set watched up",
        "route add default dev watched",
        "-6 route add default dev watched",
    ):
        subprocess.run(["ip", *line.split()], check=True)
    return tunnel


def look_names_up_there() -> None:
    """Let this machine know its own name, and ask a server behind the tunnel for every other."""
    with tempfile.TemporaryDirectory() as folder:
        for path, text in (
            ("/etc/resolv.conf", f"nameserver {NAMESERVER}\noptions timeout:1 attempts:1\n"),
            ("/etc/nsswitch.conf", "hosts: files dns\npasswd: files\ngroup: files\n"),
            ("/etc/hosts", f"127.0.0.1 localhost {socket.gethostname()}\n::1 localhost\n"),
        ):
            file = Path(folder, os.path.basename(path))
            file.write_text(text)
            subprocess.run(["mount", "--bind", file, os.path.realpath(path)], check=True)


def described(packet: bytes) -> str | None:
    """Return what a packet was for, in a line; None for the kernel's own words on the tunnel."""
    if packet[0] >> 4 == 4:
        protocol, target, rest = packet[9], packet[16:20], packet[(packet[0] & 15) * 4 :]
    else:
        protocol, target, rest = packet[6], packet[24:40], packet[40:]
    if protocol not in PROTOCOLS:
        return None
    port = struct.unpack("!H", rest[2:4])[0]
    line = f"{PROTOCOLS[protocol]} to {ipaddress.ip_address(target)}, port {port}"
    return f"{line}: {name_in(rest[8:])}" if (protocol, port) == (17, 53) else line


def name_in(query: bytes) -> str:
    """Return the name that a DNS query asks for."""
    labels, at = [], 12
    while at < len(query) and query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    return ".".join(labels)


def main() -> int:
    try:
        tunnel = open_tunnel()
        look_names_up_there()
    except (OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 99
    with open(sys.argv[1], "w") as log, subprocess.Popen(sys.argv[2:]) as command:
        ended = False
        while not ended:
            ended = command.poll() is not None  # what it sent before is read once more
            while select.select([tunnel], [], [], 0 if ended else 0.1)[0]:
                line = described(os.read(tunnel, 65536))
                if line is not None:
                    print(line, file=log, flush=True)
    return command.returncode


if __name__ == "__main__":
    sys.exit(main())
