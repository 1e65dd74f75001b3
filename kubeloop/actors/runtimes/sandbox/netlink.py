"""The network of a pod, by rtnetlink: no `ip` program is needed, nor there to be run.

A pod has `lo`, and `eth0` with the pod's IP. The other end of `eth0` is in a second network
namespace, the pod's services: there, every address of the Service CIDR is local, so a ClusterIP can
be listened on, whatever port the pod's own programs hold on all of *their* addresses.

    pod:  lo, eth0 (pod IP) ──veth── services: every ClusterIP
"""

import os
import socket
import struct

RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE = 16, 20, 24
NLMSG_ERROR = 2
REQUEST_ACK, CREATE, REPLACE, EXCLUSIVE = 0x5, 0x400, 0x100, 0x200
LO = 1  # The index of `lo`, in every network namespace.
IFF_UP = 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
IFLA_IFNAME, IFLA_LINKINFO, IFLA_NET_NS_FD = 3, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
POD_LINK, SERVICES_LINK = "eth0", "services"
RTA_DST, RTA_OIF, RTA_TABLE = 1, 4, 15
RT_TABLE_MAIN, RT_TABLE_LOCAL, RTPROT_BOOT = 254, 255, 3
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_HOST = 0, 253, 254
RTN_UNICAST, RTN_LOCAL = 1, 2


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
    head = struct.pack("=BBBBi", socket.AF_INET, 32, 0, RT_SCOPE_UNIVERSE, index)
    body = head + attribute(IFA_LOCAL, raw) + attribute(IFA_ADDRESS, raw)
    return request(RTM_NEWADDR, CREATE | REPLACE, body, sequence)


def add_veth(peer_namespace: int, sequence: int) -> bytes:
    """Return the request that makes `eth0`, its other end in another network namespace.

    peer_namespace: a descriptor of it.
    """
    blank = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)
    peer = blank + attribute(IFLA_IFNAME, SERVICES_LINK.encode() + b"\0")
    peer += attribute(IFLA_NET_NS_FD, struct.pack("=i", peer_namespace))
    info = attribute(IFLA_INFO_KIND, b"veth")
    info += attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer))
    body = blank + attribute(IFLA_IFNAME, POD_LINK.encode() + b"\0")
    body += attribute(IFLA_LINKINFO, info)
    return request(RTM_NEWLINK, CREATE | EXCLUSIVE, body, sequence)


def add_route(cidr: str, index: int, sequence: int, *, local: bool = False) -> bytes:
    """Return the request that leads `cidr` to a link, or makes all of it addresses of this host."""
    network, _, bits = cidr.partition("/")
    table = RT_TABLE_LOCAL if local else RT_TABLE_MAIN
    scope, kind = (RT_SCOPE_HOST, RTN_LOCAL) if local else (RT_SCOPE_LINK, RTN_UNICAST)
    fields = (socket.AF_INET, int(bits), 0, 0, table, RTPROT_BOOT, scope, kind, 0)
    body = struct.pack("=BBBBBBBBI", *fields) + attribute(RTA_DST, socket.inet_aton(network))
    body += attribute(RTA_OIF, struct.pack("=i", index))
    body += attribute(RTA_TABLE, struct.pack("=I", table))
    return request(RTM_NEWROUTE, CREATE | REPLACE, body, sequence)


def set_up_alone(ip: str) -> None:
    """Make this namespace a pod's whose only link is `lo`. Raises: OSError."""
    _do(("set lo up", link_up(LO, 1)), (f"give lo the address {ip}", add_address(ip, LO, 2)))


def set_up_pod(ip: str, service_cidr: str, services: int) -> None:
    """Make this namespace a pod's. services: a descriptor of its other one. Raises: OSError."""
    _do(("set lo up", link_up(LO, 1)), ("make a veth pair", add_veth(services, 2)))
    link = socket.if_nametoindex(POD_LINK)
    _do(
        (f"give {POD_LINK} the address {ip}", add_address(ip, link, 3)),
        (f"set {POD_LINK} up", link_up(link, 4)),
        (f"lead {service_cidr} to the services", add_route(service_cidr, link, 5)),
    )


def set_up_services(ip: str, service_cidr: str) -> None:
    """Make this namespace the services of the pod with address `ip`. Raises: OSError."""
    link = socket.if_nametoindex(SERVICES_LINK)
    _do(
        ("set lo up", link_up(LO, 1)),
        (f"set {SERVICES_LINK} up", link_up(link, 2)),
        (f"make {service_cidr} local", add_route(service_cidr, LO, 3, local=True)),
        (f"lead {ip} to the pod", add_route(f"{ip}/32", link, 4)),
    )


def _do(*steps: tuple[str, bytes]) -> None:
    """Have the kernel do it, step by step. Raises: OSError that names the step."""
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
