"""What a container's network is made of, and how it is taken down: here and only here.

    connecting  connect and disconnect a container, whatever its network is; what the rest of the program calls
    record      what is written down of a connection, so that anybody can end it after any crash
    networks    the networks of a store: made, listed, removed
    bridge      a network as a bridge, by CNI plugins       cni        calling such plugins
                                                             firewall   the machine's rules for all bridges
    usermode    an ordinary user's: pasta or slirp4netns
    subnets     addresses that nothing on the machine uses   namespace  network namespaces and links of the kernel
    ports       published ports: read, reserved              names      /etc/hosts and /etc/resolv.conf

One rule: a connection is written down before it is made, and can be ended by its record alone.
"""

from runtime.network.connecting import (
    Connection,
    address,
    adopt,
    connect,
    disconnect,
    published,
    refresh,
    rename,
    sweep,
)

__all__ = [
    "Connection",
    "address",
    "adopt",
    "connect",
    "disconnect",
    "published",
    "refresh",
    "rename",
    "sweep",
]
