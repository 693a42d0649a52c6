"""Two nodes by scripts/torchrun.sh, each in a network of its own: they train, and go on when one was killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from leyden import PROJECT

from ..checkpoints.test_kills import FIT, OFTEN
from ..processes import is_running, result, run_of, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # up to five starts of two nodes
TWO = [*FIT, "--config", str(PROJECT / "configs" / "with" / "ddp_cpu.yaml"), "--data.batch_size=16", *OFTEN]
TORCHRUN = str(PROJECT / "scripts" / "torchrun.sh")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Node:
    """A node, which has a network of its own where the machine allows it, else an address of the loopback interface.

    Args:
        number: Its NODE_RANK.
        network: The name of its network namespace, or None.
    """

    def __init__(self, number: int, network: str | None) -> None:
        self.number = number
        self.prefix = ["ip", "netns", "exec", network] if network else []
        addresses = ["10.77.0.1", "10.77.0.2"] if network else ["127.0.0.1", "127.0.0.2"]
        interface = f"leyden{number}" if network else "lo"
        self.env = {"NNODES": "2", "NPROC": "1", "NODE_RANK": str(number), "PYTHON": sys.executable}
        self.env |= {"MASTER_ADDR": addresses[0], "LOCAL_ADDR": addresses[number], "GLOO_SOCKET_IFNAME": interface}
        self.env |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "LEYDEN_JOIN_SECONDS": "30"}
        self.output = Path(f"node-{number}.txt")

    def start(self, *words: str, by: tuple[str, ...] = (TORCHRUN,), **env: str) -> None:
        """Begins `scripts/torchrun.sh`, or what is named instead."""
        command = [*self.prefix, *by, *words]
        with self.output.open("w") as file:
            self.torchrun = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | self.env | env, start_new_session=True
            )

    def worker(self) -> int:
        """The process id of its one rank."""
        for child in Path(f"/proc/{self.torchrun.pid}/task/{self.torchrun.pid}/children").read_text().split():
            with suppress(OSError):  # it has ended
                if b"\0LOCAL_RANK=0\0" in Path(f"/proc/{child}/environ").read_bytes():
                    return int(child)
        raise AssertionError

    def kill(self) -> None:
        """Kills torchrun; its rank ends, too."""
        worker = self.worker()
        self.torchrun.kill()
        self.torchrun.wait()
        deadline = time.monotonic() + 20
        while is_running(worker):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def wait(self) -> tuple[int, str]:
        """The exit code of torchrun, and what was printed."""
        return self.torchrun.wait(timeout=200), self.output.read_text()


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Node]]:
    monkeypatch.chdir(tmp_path)
    networks: list[str | None] = [f"leyden-{os.getpid()}-{number}" for number in range(2)]
    try:
        for network in networks:
            ip("netns", "add", str(network))
        first, second = map(str, networks)
        ip("link", "add", "leyden0", "netns", first, "type", "veth", "peer", "name", "leyden1", "netns", second)
        for number, network in enumerate(networks):
            ip("-n", str(network), "addr", "add", f"10.77.0.{number + 1}/24", "dev", f"leyden{number}")
            for interface in ("lo", f"leyden{number}"):
                ip("-n", str(network), "link", "set", interface, "up")
    except (OSError, subprocess.CalledProcessError):  # no such command, or no right to
        networks = [None, None]
    both = [Node(number, network) for number, network in enumerate(networks)]
    yield both
    for node in both:
        if node.torchrun.poll() is None:
            node.torchrun.kill()
        if node.prefix:
            ip("netns", "delete", node.prefix[-1])


def start(nodes: list[Node], name: str, **env: str) -> None:
    for node in nodes:
        node.start(*TWO, f"--name={name}", RUN_ID=name, **env)


def check_end(nodes: list[Node]) -> None:
    for code, text in [node.wait() for node in nodes]:
        assert code == 0, text


def wait_for_training(name: str) -> Path:
    """Waits until the run has trained on since now."""
    now = time.time_ns()
    return wait_for(f"runs/{name}/*/checkpoints/last.ckpt", after=now + 10**8)


def test_two_nodes_train_and_go_on_exactly_when_one_was_killed(nodes: list[Node]) -> None:
    start(nodes, "whole")
    check_end(nodes)
    assert "2 processes on 2 nodes" in nodes[0].output.read_text()
    start(nodes, "killed")
    wait_for_training("killed")
    nodes[1].kill()
    nodes[1].start(*TWO, "--name=killed", RUN_ID="killed")  # that of node 0 waits for it
    wait_for_training("killed")
    nodes[0].kill()  # where all meet: the other node ends
    code, text = nodes[1].wait()
    assert code == 1, text
    start(nodes, "killed")
    check_end(nodes)
    assert "from  runs/killed/" in nodes[0].output.read_text()
    assert len(list(run_of("killed").parent.iterdir())) == 1
    assert result("killed") == result("whole")


def test_two_nodes_that_are_started_by_hand_train(nodes: list[Node]) -> None:
    overlay = str(PROJECT / "configs" / "with" / "multinode.yaml")
    on_cpu = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--data.batch_size=16"]
    for node in nodes:
        by = (sys.executable, "-m", "leyden")
        node.start(*FIT, "--config", overlay, *on_cpu, "--name=by_hand", by=by, MASTER_PORT="29400")
    check_end(nodes)
    text = nodes[0].output.read_text()
    assert "node 0 waits at" in text
    assert "2 processes on 2 nodes; batch 32 = 2 processes x 16" in text
    assert len(list(run_of("by_hand").parent.iterdir())) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_either_node_saves_and_ends_both(nodes: list[Node], number: int) -> None:
    """With restarts, the other node would wait for this one."""
    for to in range(2):
        start(nodes, "stopped", MAX_RESTARTS="0")
        wait_for_training("stopped")
        workers = [node.worker() for node in nodes]
        os.kill(nodes[to].torchrun.pid, number)
        texts = [text for code, text in [node.wait() for node in nodes] if code != 0]
        assert len(texts) == 2
        assert "stopped at step" in texts[0], texts[0]
        assert "error: " not in "".join(texts)
        assert not any(is_running(worker) for worker in workers)
    start(nodes, "stopped", MAX_RESTARTS="0")
    check_end(nodes)
    start(nodes, "whole")
    check_end(nodes)
    assert result("stopped") == result("whole")


def other_options(nodes: list[Node]) -> None:
    nodes[0].start(*TWO, RUN_ID="a", MAX_RESTARTS="0")
    nodes[1].start(*TWO, "--data.batch_size=8", RUN_ID="a", MAX_RESTARTS="0")


def other_torch(nodes: list[Node]) -> None:
    start(nodes[:1], "a", MAX_RESTARTS="0")
    Path("sitecustomize.py").write_text("import torch\ntorch.__version__ = '1.0'\n")
    path = f"{Path.cwd()}:{os.environ.get('PYTHONPATH', '')}"
    start(nodes[1:], "a", MAX_RESTARTS="0", PYTHONPATH=path)


def other_data(nodes: list[Node]) -> None:
    start(nodes[:1], "a", MAX_RESTARTS="0")
    lines = ["import sklearn.datasets as datasets", "original = datasets.load_digits"]
    lines += ["def load_digits(**options):", "    bunch = original(**options)", "    bunch.target[0] = 7"]
    lines += ["    return bunch", "datasets.load_digits = load_digits"]
    Path("sitecustomize.py").write_text("\n".join(lines))
    path = f"{Path.cwd()}:{os.environ.get('PYTHONPATH', '')}"
    start(nodes[1:], "a", MAX_RESTARTS="0", PYTHONPATH=path)


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (other_options, "has --data.batch_size 8, but rank 0 on"),
        (other_torch, "has torch 1.0, but rank 0 on"),
        (other_data, "has train_set 1237 samples with checksum"),
    ],
)
def test_nodes_that_differ_are_refused_in_one_line(
    nodes: list[Node], begin: Callable[[list[Node]], None], said: str
) -> None:
    begin(nodes)
    text = nodes[0].wait()[1]
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert said in line
    assert "exitcode: 2" in text or "exitcode  : 2" in text  # as torchrun reports that of its process
    assert nodes[1].wait()[0] != 0


def test_a_node_that_cannot_reach_the_first_says_so_in_one_line(nodes: list[Node]) -> None:
    nodes[0].start("--version")  # which ends at once
    nodes[1].start(*TWO, RUN_ID="a", MASTER_ADDR="10.99.0.1", LEYDEN_JOIN_SECONDS="2")
    code, text = nodes[1].wait()
    assert code == 2
    assert text.startswith("error: cannot reach 10.99.0.1:29400: is NODE_RANK 0 started")
    assert len(text.splitlines()) == 1
