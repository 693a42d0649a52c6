"""Processes that meet before they train, here threads of one process."""

import socket
import threading
import time

import pytest

from leyden.errors import UserError
from leyden.runs.meeting import Facts, Meeting

SAME: Facts = {
    "versions": {"torch": "2.14.0", "Python": "3.11"},
    "code": {"a leyden/errors.py with checksum": "0a"},
    "options": {"--data.batch_size": 16, "--seed_everything": 0},
    "checkpoint": {"a checkpoint of step": None},
}
OTHER: dict[str, tuple[Facts, str]] = {
    "torch": ({"versions": {"torch": "2.13.0"}}, "has torch 2.13.0, but rank 0 on HOST has 2.14.0: install the same"),
    "code": (
        {"code": {"a leyden/errors.py with checksum": "0b"}},
        "has a leyden/errors.py with checksum 0b, but rank 0 on HOST has 0a: bring all nodes to the same commit",
    ),
    "an option": ({"options": {"--data.batch_size": 8, "--seed_everything": 0}}, "has --data.batch_size 8, but"),
    "a missing option": ({"options": {"--data.batch_size": 16}}, "has --seed_everything None, but rank 0"),
    "another folder of runs": ({"checkpoint": {"a checkpoint of step": 40}}, "has a checkpoint of step 40, but rank 0"),
}


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def outcomes(*facts: Facts, port: int, count: int | None = None, seconds: float = 20) -> list[str]:
    """What each of several processes is refused for; an empty string where it goes on."""
    said = [""] * len(facts)
    meetings: list[Meeting] = []  # the server ends with the meeting of rank 0

    def take_part(rank: int) -> None:
        try:
            meeting = Meeting(("127.0.0.1", port), rank, count or len(facts), seconds)
            meetings.append(meeting)
            meeting.compare("start", facts[rank])
            meeting.compare("data", {})
        except UserError as error:
            said[rank] = str(error)

    threads = [threading.Thread(target=take_part, args=(rank,)) for rank in range(len(facts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


def test_processes_that_have_the_same_go_on() -> None:
    assert outcomes(SAME, SAME, SAME, port=free_port()) == ["", "", ""]


@pytest.mark.parametrize("name", OTHER)
def test_a_process_that_differs_is_named_to_all(name: str) -> None:
    facts, line = OTHER[name]
    said = outcomes(SAME, SAME, SAME | facts, port=free_port())
    assert len({*said}) == 1
    assert said[0].startswith(f"rank 2 on {socket.gethostname()} ")
    assert line.replace("HOST", socket.gethostname()) in said[0]


def test_a_process_that_does_not_come_is_named() -> None:
    (said,) = outcomes(SAME, count=2, seconds=1, port=free_port())
    assert said.startswith("of 2 processes 1 have not come to 127.0.0.1:")
    assert "rank 1 after 1 s" in said


def test_an_address_that_leads_nowhere_is_said() -> None:
    started = time.monotonic()
    for host in ("nowhere.invalid", "192.0.2.1"):  # of TEST-NET-1, RFC 5737
        with pytest.raises(UserError, match=f"rank 0 cannot be reached at {host}:"):
            Meeting((host, free_port()), rank=0, count=2, seconds=1)
        with pytest.raises(UserError, match=f"cannot reach {host}:.*, where rank 0 waits after"):
            Meeting((host, free_port()), rank=1, count=2, seconds=-5)
    assert time.monotonic() - started < 30


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        with pytest.raises(UserError, match=r"is taken .* set MASTER_PORT"):
            Meeting(("127.0.0.1", server.getsockname()[1]), rank=0, count=2, seconds=1)
