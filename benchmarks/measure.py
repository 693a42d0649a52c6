"""Measurements for all benchmarks: time, memory, and ratios of medians with their spread."""

import os
import platform
import re
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch


def seconds() -> float:
    """Return CPU seconds of this process and its finished children; with a GPU, wall time after it has finished."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that a function takes."""
    start = seconds()
    action()
    return seconds() - start


def machine() -> str:
    """Name the hardware, the processor's vector instructions that torch uses, and torch's version."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    processor = platform.processor() or platform.machine()
    with Path("/proc/cpuinfo").open() as lines:
        info = dict(reversed([[word.strip() for word in line.partition(":")[::2]] for line in lines]))  # the first core
    processor = info.get("model name", processor).replace("(R)", "").removesuffix(" Processor")
    if not re.search(r"\d", processor) and "model" in info:  # a virtual machine gives only "Xeon"
        processor += f" (family {info['cpu family']} model {info['model']})"
    vectors, version = torch.backends.cpu.get_cpu_capability(), torch.__version__.partition("+")[0]
    return f"{os.cpu_count()} cores of an {processor} processor, {vectors}, {device}, torch {version}"


@dataclass
class Ratio:
    """Measurements of two sides, one pair per round: the ratio of their medians, and the ratio of each round."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def add(self, ours: float, theirs: float) -> None:
        """Add a round."""
        self.ours.append(ours)
        self.theirs.append(theirs)

    @property
    def value(self) -> float:
        """The ratio of the medians."""
        return statistics.median(self.ours) / statistics.median(self.theirs)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest ratio of a round."""
        ratios = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        return min(ratios), max(ratios)


def run(command: list[str], **variables: str) -> tuple[float, float, str]:
    """Run a command with one torch thread; return its CPU seconds, its peak memory in MiB and what it printed.

    The CPU seconds are those of its children as well, such as wandb's own process.

    The peak is what Linux last says of the process, read ten times a second: that of its `ru_maxrss` begins with the
    memory of the process that started it.

    Args:
        command: The words.
        variables: What it is given in its environment.

    Raises:
        RuntimeError: It failed.
    """
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    peak, ended, status = 0.0, 0, 0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=one_thread)
        while not ended:
            time.sleep(0.1)
            peak = max(peak, memory(process.pid, "VmHWM"))
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        output.seek(0)
        text = output.read()
    if status != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{text}")
    return usage.ru_utime + usage.ru_stime, peak, text


def memory(pid: int | str, *kinds: str) -> float:
    """Return a process's memory in MiB, the sum of some fields of /proc/PID/status; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.split()[1]) for line in lines if line.partition(":")[0] in kinds) / 1024


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, in any of its threads."""
    try:
        threads = [thread.read_text() for thread in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has ended
        return []
    return [int(child) for thread in threads for child in thread.split()]


def resident_share(pid: int, where: str | int) -> float:
    """Return a process's share of some memory, in KiB; pages that n processes share count 1/n in each (Linux's PSS).

    Args:
        pid: The process.
        where: Part of the name of the file that is mapped, or an address in the memory.
    """
    share, inside = 0.0, False
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return 0.0
    for line in lines:
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            low, high = (int(bound, 16) for bound in found.groups())
            inside = where in line if isinstance(where, str) else low <= where < high
        elif inside and line.startswith("Pss:"):
            share += float(line.split()[1])
    return share
