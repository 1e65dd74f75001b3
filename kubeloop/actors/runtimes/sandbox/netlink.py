"""The pod's loopback interface, by rtnetlink: no `ip` program is needed, nor there to be run.

A pod has one interface, `lo`. It is up, carries the pod's IP, and every address of the Service
CIDR is local to it: so a ClusterIP can be listened on, and connecting to one never leaves the pod.
"""

import os
import socket
import struct

RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE = 16, 20, 24
NLMSG_ERROR = 2
REQUEST_ACK, CREATE, REPLACE = 0x5, 0x400, 0x100
LO = 1  # The index of `lo`, in every network namespace.
IFF_UP = 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_TABLE = 1, 4, 15
RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL = 255, 3, 254, 2


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def request(kind: int, flags: int, body: bytes, sequence: int) -> bytes:
    """Return a message that the kernel must acknowledge."""
    length = 16 + len(body)
    return struct.pack("=IHHII", length, kind, flags | REQUEST_ACK, sequence, 0) + body


def link_up(index: int, sequence: int) -> bytes:
    """Return the request that sets an interface up."""
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, IFF_UP, IFF_UP)
    return request(RTM_NEWLINK, 0, body, sequence)


def add_address(ip: str, index: int, sequence: int) -> bytes:
    """Return the request that gives an interface the address `ip`/32."""
    raw = socket.inet_aton(ip)
    head = struct.pack("=BBBBi", socket.AF_INET, 32, 0, RT_SCOPE_HOST, index)
    body = head + attribute(IFA_LOCAL, raw) + attribute(IFA_ADDRESS, raw)
    return request(RTM_NEWADDR, CREATE | REPLACE, body, sequence)


def add_local_route(cidr: str, index: int, sequence: int) -> bytes:
    """Return the request that makes all of `cidr` addresses of this host."""
    network, _, bits = cidr.partition("/")
    kinds = (RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL)
    head = struct.pack("=BBBBBBBBI", socket.AF_INET, int(bits), 0, 0, *kinds, 0)
    body = head + attribute(RTA_DST, socket.inet_aton(network))
    body += attribute(RTA_OIF, struct.pack("=i", index))
    body += attribute(RTA_TABLE, struct.pack("=I", RT_TABLE_LOCAL))
    return request(RTM_NEWROUTE, CREATE | REPLACE, body, sequence)


def set_up(ip: str, service_cidr: str) -> None:
    """Make the loopback interface of this namespace a pod's. Raises: OSError."""
    steps = (
        ("set lo up", link_up(LO, 1)),
        (f"give lo the address {ip}", add_address(ip, LO, 2)),
        (f"make {service_cidr} local", add_local_route(service_cidr, LO, 3)),
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        for what, message in steps:
            sock.send(message)
            number = acknowledged(sock.recv(65_536))
            if number:
                raise OSError(number, f"cannot {what}: {os.strerror(number)}")


def acknowledged(answer: bytes) -> int:
    """Return the error number in the kernel's answer; 0 if it did what was asked."""
    kind = struct.unpack_from("=IH", answer)[1]
    assert kind == NLMSG_ERROR, "an acknowledgement is an error message with number 0"
    number: int = struct.unpack_from("=i", answer, 16)[0]
    return -number
