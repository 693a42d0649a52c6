"""Let the processes of a run on several nodes meet before they train, and compare what they have.

Rank 0 says in one line who has not come or who differs. Without it, a process that nobody can reach is noticed after
the timeout of the process group, and one with other code or data never.
"""

import json
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from leyden.errors import UserError

JOIN_SECONDS = "LEYDEN_JOIN_SECONDS"  # environment variable: how long processes wait for each other
Facts = dict[str, dict[str, Any]]  # {kind: {name: value}}
FIXES = {  # what to do where facts of a kind differ, in the order in which they are compared
    "versions": "install the same on all nodes",
    "code": "bring all nodes to the same commit",
    "options": "start all with the same command and files",
    "checkpoint": "runs must be in a file system that all nodes share",
    "data": "copy the same data to all nodes",
}


class Meeting:
    """The processes that SLURM, torchrun or a person on each node has started, connected by a store of torch.

    The store is that of the process group, which is initialized later: in rank 0's process it is the same server.

    Args:
        address: Host and port of the store.
        rank: Number of this process.
        count: Number of processes.
        seconds: How long they wait for each other.
        hosts: Whether rank 0 has to start the store; torchrun may have.

    Raises:
        UserError: The address cannot be reached.
    """

    def __init__(self, address: tuple[str, int], rank: int, count: int, seconds: float, hosts: bool = True) -> None:
        self.rank, self.count, self.seconds = rank, count, seconds
        self.place = f"{address[0]}:{address[1]}"
        is_host = hosts and rank == 0
        if is_host:
            self._check_own(*address)
        else:
            self._wait(lambda: _can_connect(*address), lambda: f"cannot reach {self.place}, where rank 0 waits")
        timeout = timedelta(seconds=seconds)
        self.store = TCPStore(*address, None, is_host, timeout, wait_for_workers=False, multi_tenant=True)

    def compare(self, topic: str, facts: Facts) -> None:
        """Refuse to go on if the facts of a process are not those of rank 0, which all wait for.

        Args:
            topic: A name for this comparison.
            facts: What this process has.

        Raises:
            UserError: A process differs from rank 0, or has not come.
        """
        record = {"host": socket.gethostname(), "facts": facts}
        self.store.set(f"leyden/{topic}/{self.rank}", json.dumps(record, default=str))
        verdict = f"leyden/{topic}"
        if self.rank:
            self._wait(lambda: self.store.check([verdict]), lambda: f"rank 0 at {self.place} does not answer")
            problem = self.store.get(verdict).decode()
        else:
            keys = [f"leyden/{topic}/{rank}" for rank in range(self.count)]
            self._wait(lambda: self.store.check(keys), lambda: self._missing(keys))
            records = [json.loads(self.store.get(key)) for key in keys]
            problem = next(filter(None, (_difference(records, rank) for rank in range(self.count))), "")
            self.store.set(verdict, problem)
        if problem:
            raise UserError(problem)

    def _check_own(self, host: str, port: int) -> None:
        """Check that this process can listen at the port, and be reached there by the address that the others have."""
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        try:
            server = socket.create_server(("", port), family=family, dualstack_ipv6=both)
        except OSError as error:
            raise UserError(f"port {port} of this node is taken ({error.strerror}): set MASTER_PORT") from error
        with server:
            if reason := _connection_error(host, port):
                raise UserError(
                    f"rank 0 cannot be reached at {self.place} ({reason}): set MASTER_ADDR to the address of its node, "
                    f"{socket.gethostname()}"
                )

    def _missing(self, keys: list[str]) -> str:
        missing = [str(rank) for rank, key in enumerate(keys) if not self.store.check([key])]
        numbers = ", ".join(missing[:8]) + ", ..." * (len(missing) > 8)
        return f"of {self.count} processes {len(missing)} have not come to {self.place}: rank {numbers}"

    def _wait(self, is_done: Callable[[], bool], problem: Callable[[], str]) -> None:
        # rank 0 gives up first, so that it can say why
        deadline = time.monotonic() + self.seconds + 5 * (self.rank > 0)
        while not is_done():
            if time.monotonic() > deadline:
                raise UserError(
                    f"{problem()} after {self.seconds:g} s: is the node of rank 0 at MASTER_ADDR, its port MASTER_PORT "
                    f"open to the others, and were all started? {JOIN_SECONDS} waits longer"
                )
            time.sleep(0.2)


def _difference(records: list[dict[str, Any]], rank: int) -> str:
    """Name the first fact in which a process differs from rank 0; an empty string if there is none."""
    first, other = (record["facts"] for record in (records[0], records[rank]))
    for kind, fix in FIXES.items():
        mine, theirs = first.get(kind, {}), other.get(kind, {})
        for name in {**mine, **theirs}:
            if mine.get(name) != theirs.get(name):
                return (
                    f"rank {rank} on {records[rank]['host']} has {name} {theirs.get(name)}, but rank 0 on "
                    f"{records[0]['host']} has {mine.get(name)}: {fix}"
                )
    return ""


def _can_connect(host: str, port: int) -> bool:
    return not _connection_error(host, port)


def _connection_error(host: str, port: int) -> str:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""
