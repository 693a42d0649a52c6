"""`leyden repeat`: train one configuration with several seeds, on several folds of its data, or both.

Each run is a process of its own, `leyden fit`. This one needs no torch: it starts them, and reads their files.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from leyden.errors import UserError
from leyden.runs.directory import all_runs, short_path
from leyden.runs.repeat_plan import RECORD, REPEAT, Part, Plan, read_plan
from leyden.runs.repeat_table import read_scores, show

OUTPUT = "output.txt"  # what a run prints, in its folder
INTERVAL = 0.1  # seconds between two looks at the processes

HELP = """\
usage: leyden repeat --config FILE [--seeds N] [--folds K] [--jobs J] [--option value]...

Train a configuration several times: each run in runs/NAME/seed-S or runs/NAME/seed-S_fold-F, all in one group of
Weights & Biases. The same command resumes what was stopped, and runs what is missing. At the end it prints the mean,
standard deviation and 95 % interval of each score, and writes them to runs/NAME/summary.csv, the runs to runs.csv.

  --seeds N      the seeds 0 to N-1 (default: 1); a larger N later adds runs
  --folds K      train K times for each seed, each time with another K-th of the training samples as the validation
                 split; the test set stays as it is
  --jobs J       runs at a time (default: 1); 0 trains nothing and prints the scores of the runs that have ended
  --name NAME    the folder in runs/ (default: the first --config's file name)

All other options are those of `leyden fit`. In a job array of SLURM the task I trains only run I, counted from 0:

  sbatch --array=0-14 ... --wrap "srun leyden repeat --config configs/convnet_digits.yaml --seeds 5 --folds 3"
"""


@dataclass
class Processes:
    """The runs that are being trained.

    Args:
        plan: All runs.
        runs: {run: its directory} of those that have ended.
        failures: {run: why it has failed}.
        mistake: What is wrong with the command, where that is why a run has failed.
        signal: The last signal that this process has received; 0 for none.
    """

    plan: Plan
    runs: dict[Part, Path] = field(default_factory=dict)
    failures: dict[Part, str] = field(default_factory=dict)
    mistake: str = ""
    signal: int = 0
    running: dict[int, tuple[Part, "subprocess.Popen[bytes]", int]] = field(default_factory=dict)

    def train(self, waiting: list[Part]) -> None:
        """Train the runs, several at a time, to their end; after a signal, or a mistake of the user, start no more."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._on_signal)
        while True:
            for slot in range(self.plan.jobs):
                if slot not in self.running and waiting and not self.signal and not self.mistake:
                    self._start(waiting.pop(0), slot)
            if not self.running:
                return
            time.sleep(INTERVAL)
            for slot, (part, process, _) in list(self.running.items()):
                if process.poll() is not None:
                    self._finish(part, process.returncode, self.running.pop(slot)[2])

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        for _, process, _ in self.running.values():
            process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    def _start(self, part: Part, slot: int) -> None:
        output = self.plan.folder / part.folder / OUTPUT
        output.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "leyden", *self.plan.command_of(part)]
        with output.open("ab") as file:
            size = file.tell()
            # in a process group of its own: Ctrl-C at the terminal reaches this process, which passes it on once
            process = subprocess.Popen(
                command,
                env=environment(part, self.plan, slot),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        self.running[slot] = part, process, size
        if self.signal:  # received meanwhile
            process.send_signal(self.signal)

    def _finish(self, part: Part, code: int, size: int) -> None:
        output = self.plan.folder / part.folder / OUTPUT
        run = self.plan.ended_run(part)
        if code == 0 and run is not None:
            self.runs[part] = run
            scores = ", ".join(f"{name} {value:.4g}" for name, value in read_scores(run).items() if name != "epoch")
            print(f"[{len(self.runs)}/{len(self.plan.parts)}] {part}: {scores}", flush=True)
            return
        lines = output.read_bytes()[size:].decode(errors="replace").splitlines()
        reason = next((line for line in reversed(lines) if line.startswith("error: ")), (lines or ["no output"])[-1])
        if code == 2 and not self.runs:  # the first one: all others would be refused for the same reason
            self.mistake = reason.removeprefix("error: ")
            if size == 0:  # no earlier attempt has written to it
                output.unlink()
                with suppress(OSError):
                    output.parent.rmdir()
            return
        ending = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.failures[part] = f"{ending}; {reason}; see {short_path(output)}"
        if not self.signal:
            print(f"{part} failed: {self.failures[part]}", file=sys.stderr, flush=True)


def environment(part: Part, plan: Plan, slot: int = 0) -> dict[str, str]:
    """Return the environment variables of a run: its name, and its share of the cores and of the visible GPUs."""
    env = os.environ | {REPEAT: f"{plan.name}/{part.folder}"}
    if plan.jobs > 1:
        env.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // plan.jobs)))
        if devices := [device for device in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(devices[slot :: plan.jobs] or [devices[slot % len(devices)]])
    return env


def _become_task(plan: Plan, index: str) -> None:
    """Become the run of a task of a job array, so that SLURM signals, requeues and ranks it as any `leyden fit`.

    Return if that run has ended.
    """
    if not index.isdecimal() or int(index) >= len(plan.parts):
        last = len(plan.parts) - 1
        raise UserError(f"there is no run {index}: the array of these {last + 1} runs is --array=0-{last}")
    part = plan.parts[int(index)]
    print(f"run {index} of 0 to {len(plan.parts) - 1}: {part}", flush=True)
    if plan.ended_run(part) is None:
        command = [sys.executable, "-m", "leyden", *plan.command_of(part)]
        os.execve(sys.executable, command, environment(part, plan))


def _remove_record(plan: Plan) -> None:
    """Remove the folder of a refused command that has started no run."""
    if not any(all_runs(folder) for folder in plan.folder.glob("seed-*")):
        with suppress(OSError):
            (plan.folder / RECORD).unlink()
            plan.folder.rmdir()


def main(args: Sequence[str]) -> int:
    """Train what is missing, print the table and return the exit code.

    Args:
        args: The arguments after `leyden repeat`.

    Returns:
        0 if all runs have ended, 1 if some are missing, 2 after a mistake of the user, 128 + n after signal n.
    """
    if {"-h", "--help"} & {*args}:
        print(HELP, end="")
        return 0
    try:
        plan = read_plan(args)
        task = os.environ.get("SLURM_ARRAY_TASK_ID")
        if task is not None and plan.jobs > 0:
            _become_task(plan, task)
            return 0
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    ended = {part: plan.ended_run(part) for part in plan.parts}
    processes = Processes(plan, runs={part: run for part, run in ended.items() if run is not None})
    if plan.jobs > 0:
        processes.train([part for part, run in ended.items() if run is None])
    if processes.mistake:
        _remove_record(plan)
        print(f"error: {processes.mistake}", file=sys.stderr)
        return 2
    if processes.signal:
        print(f"{signal.Signals(processes.signal).name}: stopped; the same command goes on", file=sys.stderr)
        return 128 + processes.signal
    show(plan, processes.runs, processes.failures)
    return int(len(processes.runs) < len(plan.parts))
