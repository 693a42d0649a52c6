"""A stand-in for SLURM on this machine: `sbatch` sets variables, srun starts tasks, scontrol records its calls.

As in SLURM, a signal goes to the process group of each task, and not to the batch script.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from leyden import PROJECT

SRUN = """#!{python}
import os, signal, subprocess, sys, time
words = sys.argv[1:]
while words[0].startswith("--"):
    words.pop(0)
nodes, a_node = int(os.environ["SLURM_NNODES"]), int(os.environ["SLURM_NTASKS_PER_NODE"])
total = int(os.environ["SLURM_NTASKS"])
step = {{"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(total), "SLURM_STEP_NUM_NODES": str(nodes)}}
tasks = []
for i in range(total):
    own = {{"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i % a_node), "SLURM_NODEID": str(i // a_node)}}
    tasks.append(subprocess.Popen(words, env=os.environ | step | own, start_new_session=True))
def forward(number, frame):
    for task in tasks:
        if task.poll() is None:
            os.killpg(task.pid, number)
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, forward)
while any(task.poll() is None for task in tasks):
    if any(task.poll() for task in tasks):  # --kill-on-bad-exit
        time.sleep(0.05)
        forward(signal.SIGKILL, None)
    time.sleep(0.05)
sys.exit(max(task.returncode if task.returncode >= 0 else 128 - task.returncode for task in tasks))
"""
SCONTROL = """#!/bin/sh
case $1 in
    show) echo 127.0.0.1 ;;
    *) echo "$@" >> {calls} ;;
esac
"""


class Job:
    """A job of SLURM that runs a script of `scripts/` in the current directory.

    Args:
        script: The name of the script.
        words: What follows it on the command line of `sbatch`.
        env: Variables of SLURM and others, which replace those that the script's lines `#SBATCH` lead to.
    """

    def __init__(self, script: str, *words: str, **env: str) -> None:
        self.folder = Path("slurm").absolute()
        self.folder.mkdir(exist_ok=True)
        for name, content in {"srun": SRUN, "scontrol": SCONTROL}.items():
            file = self.folder / name
            file.write_text(content.format(python=sys.executable, calls=self.folder / "calls"))
            file.chmod(0o755)
        path = PROJECT / "scripts" / script
        options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", path.read_text(), re.MULTILINE))
        variables = {
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NAME": options["job-name"],
            "SLURM_NNODES": options["nodes"],
            "SLURM_NTASKS_PER_NODE": options["ntasks-per-node"],
            "SLURM_CPUS_PER_TASK": options["cpus-per-task"],
            "SLURM_JOB_NODELIST": "127.0.0.1",
            **env,
        }
        tasks = int(variables["SLURM_NNODES"]) * int(variables["SLURM_NTASKS_PER_NODE"])
        variables = {"SLURM_NTASKS": str(tasks), "SLURM_PROCID": "0", "SLURM_LOCALID": "0", **variables}
        if not Path("scripts").exists():
            Path("scripts").symlink_to(PROJECT / "scripts")
        tools = {"PATH": f"{self.folder}:{os.environ['PATH']}", "PYTHON": sys.executable, "WANDB_MODE": "disabled"}
        self.output = self.folder / "output.txt"
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                ["bash", str(path), *words], stdout=file, stderr=subprocess.STDOUT, env=os.environ | tools | variables
            )

    def signal(self, number: signal.Signals) -> None:
        """Signals the tasks, as SLURM does before the time of the job is over."""
        self.process.send_signal(number)  # the script is srun by now

    def wait(self) -> tuple[int, str]:
        """The exit code, and what was printed."""
        return self.process.wait(timeout=200), self.output.read_text()

    def calls(self) -> str:
        """What scontrol was told."""
        return (self.folder / "calls").read_text()
