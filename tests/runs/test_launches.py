"""Runs that SLURM or torchrun starts again."""

import os
import socket
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from leyden.cli.main import main
from leyden.errors import UserError
from leyden.runs.launches import record_launch, renew_store, restarted_run, slurm_job
from leyden.runs.metrics import has_ended

from ..checkpoints.test_write_paths import SHORT
from .test_directory import checkpoint


@pytest.fixture(autouse=True)
def no_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)


def test_a_run_that_is_started_again_is_found_by_its_launch_and_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checkpoint(tmp_path, "a", "2026-01-01_00-00-00", "last").parents[1]
    other = checkpoint(tmp_path, "b", "2026-01-02_00-00-00", "last").parents[1]
    record_launch(run, ["fit"])
    assert not (run / "launch.json").exists()  # nothing has launched it
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    record_launch(run, ["fit"])
    record_launch(other, ["fit", "--name", "b"])
    assert restarted_run(tmp_path, ["fit"]) is None  # the first start
    for restarts in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"):
        with monkeypatch.context() as patch:
            patch.setenv(restarts, "1")
            assert restarted_run(tmp_path, ["fit"]) == run
            assert restarted_run(tmp_path, ["fit", "--name", "b"]) == other
            assert restarted_run(tmp_path, ["fit", "--name", "c"]) is None
            patch.setenv("SLURM_JOB_ID", "8")
            patch.setenv("TORCHELASTIC_RUN_ID", "another")
            assert restarted_run(tmp_path, ["fit"]) is None
    (run / "checkpoints" / "last.ckpt").unlink()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert restarted_run(tmp_path, ["fit"]) is None  # it begins anew


def test_a_task_of_a_job_array_has_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slurm_job() is None
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # of the first task and of the whole array
    assert slurm_job() == "7"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    assert slurm_job() == "7_0"
    run = checkpoint(tmp_path, "a", "2026-01-01_00-00-00", "last").parents[1]
    record_launch(run, ["fit"])
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert restarted_run(tmp_path, ["fit"]) == run
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert restarted_run(tmp_path, ["fit"]) is None


def test_a_job_that_is_queued_again_passes_over_the_command_that_it_has_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert main(SHORT) == 0
    capfd.readouterr()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(SystemExit) as end:
        main(SHORT)
    assert end.value.code == 0
    assert "finished before it was started again" in capfd.readouterr().out
    assert len(list(Path("runs", "convnet_digits").iterdir())) == 1
    assert main([*SHORT, "--seed_everything=1"]) == 0  # another command of the job, which has not begun
    assert len(list(Path("runs", "convnet_digits").iterdir())) == 2


def test_a_run_of_leyden_repeat_records_its_end_and_is_passed_over_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEYDEN_REPEAT", "convnet_digits/seed-0")
    assert main(SHORT) == 0
    (run,) = Path("runs", "convnet_digits").iterdir()
    assert has_ended(run)
    record_launch(run, SHORT)  # as if it had been killed before it recorded its end
    assert not has_ended(run)
    with pytest.raises(SystemExit) as end:
        main(SHORT)
    assert end.value.code == 0
    assert "finished before it was started again" in capfd.readouterr().out
    assert has_ended(run)
    (run / "launch.json").write_text('{"launch')
    assert not has_ended(run)
    monkeypatch.delenv("LEYDEN_REPEAT")
    assert main(SHORT) == 0
    assert not any(has_ended(other) for other in Path("runs", "convnet_digits").iterdir())


def test_restarts_on_several_nodes_need_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--rdzv-id"):
        restarted_run(tmp_path, ["fit"])


def test_on_several_nodes_a_run_is_found_by_those_that_have_not_counted_the_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checkpoint(tmp_path, "a", "2026-01-01_00-00-00", "last").parents[1]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "id")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    record_launch(run, ["fit"])
    assert restarted_run(tmp_path, ["fit"]) == run


def test_processes_started_again_meet_in_another_store_at_the_port_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    started = {"TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_USE_AGENT_STORE": "True", "GROUP_WORLD_SIZE": "1"}
    for name, value in {**started, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(used.port)}.items():
        monkeypatch.setenv(name, value)
    renew_store()
    assert os.environ["MASTER_PORT"] == str(used.port)  # the first start has no other
    ports = []
    for restarts, rank in [("1", "0"), ("1", "1"), ("2", "0")]:
        with monkeypatch.context() as patch:
            patch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
            patch.setenv("RANK", rank)
            renew_store()
            ports.append(int(os.environ["MASTER_PORT"]))
            assert os.environ["TORCHELASTIC_USE_AGENT_STORE"] == "False"
            patch.setenv("MASTER_PORT", str(used.port))
            patch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    assert ports[0] == ports[1] != used.port
    with socket.socket() as free:
        free.bind(("127.0.0.1", ports[0]))
