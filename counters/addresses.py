"""The address that a request really comes from, behind reverse proxies as well. Pure; no address is ever logged."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: An IPv6 address with brackets, zone and port is shorter.
LONGEST_ADDRESS = 128

# An address as proxies write it: in brackets or with four parts it may have a port, which may be obfuscated (RFC 7239
# section 6.2); an IPv6 address without brackets has none.
_NODE = re.compile(r"(?:\[([^\[\]]+)\]|([\d.]+))(?::[\w.-]+)?|([^\[\]]+)", re.ASCII)
_HOPS = re.compile(r"\d{1,2}", re.ASCII)
# A list's element and an element's parameter: commas and semicolons in a quoted string part nothing. A backslash,
# which no address needs, makes an element invalid.
_ELEMENT = re.compile(r'(?:[^",\\]|"[^"\\]*")*')
_PARAMETER = re.compile(r'(?:[^";]|"[^"]*")+')


class TrustedProxies(NamedTuple):
    """Whom to believe about the address of a client: so many proxies nearest to the service, or those in networks."""

    hops: int = 0
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "TrustedProxies":
        """From a number of proxies ("2"), or networks and addresses ("10.0.0.0/8, 127.0.0.1"); nobody when empty.

        Raises ValueError with a sentence for anything else.
        """
        if not text.strip():
            return cls()
        if _HOPS.fullmatch(text.strip()):
            return cls(hops=int(text))
        try:
            return cls(networks=tuple(ip_network(part.strip()) for part in text.split(",")))
        except ValueError as error:
            raise ValueError(f"{error}; give a number of proxies up to 99, or networks like 10.0.0.0/8, ::1.") from None

    def trust(self, hop: int, address: Address | None) -> bool:
        """Whether to believe the proxy at `address`, the `hop`-th on the way from the service, which counts from 0."""
        return hop < self.hops or (address is not None and any(address in network for network in self.networks))


def client_address(peer: str | None, nodes: Iterable[str], proxies: TrustedProxies) -> Address | None:
    """The address of the client: the first, seen from the service, that is not a trusted proxy's.

    `nodes` is what proxies say they were reached from, nearest first (see NODES). The walk begins at the peer and goes
    on only as long as who speaks is trusted, since anybody can send a header: what stands further left than that was
    written by the client. It also ends before what is no address (`unknown`, a pseudonym, nonsense), and then the
    proxy that said so stands for its clients. If every address is a trusted proxy's, or there are fewer than the
    counted hops, it is the outermost. None when there is no address at all.
    """
    address = parse_address(peer or "")
    for hop, node in enumerate(nodes):
        if not proxies.trust(hop, address):
            break
        seen = parse_address(node)
        if seen is None:
            break
        address = seen
    return address


def parse_address(text: str) -> Address | None:
    """The address in `text`, without port and zone, which are not the client's alone; None if there is none.

    An IPv4 address mapped into IPv6 is the IPv4 address that it stands for.
    """
    return _parse(text.strip()) if len(text) <= LONGEST_ADDRESS else None


@lru_cache(10_000)  # a proxy's own address comes with each of its requests
def _parse(text: str) -> Address | None:
    node = _NODE.fullmatch(text)
    if not node:
        return None
    try:
        address = ip_address((node[1] or node[2] or node[3]).partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _x_forwarded_for(values: Sequence[str]) -> Iterator[str]:
    for value in reversed(values):
        for node in reversed(value.split(",")):
            if node.strip():  # empty elements of a list are to be ignored (RFC 9110 section 5.6.1)
                yield node


def _forwarded(values: Sequence[str]) -> Iterator[str]:
    """The `for` parameters of `Forwarded` (RFC 7239), "" for an element that has none or is malformed.

    The header is read backwards: a quote that the client left open must not swallow what proxies wrote after it.
    """
    for value in reversed(values):
        backwards, at = value[::-1], 0
        while at <= len(backwards):
            element = _ELEMENT.match(backwards, at)
            assert element  # it matches the empty string
            at = element.end() + 1
            if backwards[element.end() : at] not in ("", ","):
                yield ""
                return
            if element[0].strip():
                yield _for(element[0][::-1])


def _for(element: str) -> str:
    """The value of an element's `for`, unquoted; "" if it has not exactly one."""
    parameters = [parameter.partition("=") for parameter in _PARAMETER.findall(element)]
    found = [value.strip() for name, _, value in parameters if name.strip().lower() == "for"]
    return found[0].removeprefix('"').removesuffix('"') if len(found) == 1 else ""


#: How to read the header that carries addresses, by its lower-case name: from its values, in the order in which they
#: were sent, to the addresses in it, the nearest to the service first.
NODES: Mapping[str, Callable[[Sequence[str]], Iterator[str]]] = {
    "x-forwarded-for": _x_forwarded_for,
    "forwarded": _forwarded,
}
