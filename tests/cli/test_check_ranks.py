"""Which processes meet before they train; tests/runs/test_nodes.py has them do it."""

from types import SimpleNamespace
from typing import Any

import pytest
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from leyden.cli import check_ranks
from leyden.cli.check_ranks import compare_data, meet
from leyden.data.synthetic import SyntheticClustersDataModule
from leyden.errors import UserError
from leyden.runs.meeting import Facts

RUN: Any = SimpleNamespace(
    record={"data": {"init_args": {"root": "/a", "batch_size": 16}}, "seed_everything": 0}, checkpoint={}
)


class Meeting:
    """Stands for one; notes what is compared."""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.seconds = args[3]
        self.compared: dict[str, Facts] = {}

    def compare(self, topic: str, facts: Facts) -> None:
        self.compared[topic] = facts


@pytest.fixture(autouse=True)
def meetings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_ranks, "Meeting", Meeting)
    monkeypatch.setenv("MASTER_ADDR", "node0")
    monkeypatch.setenv("MASTER_PORT", "29400")


def trainer(environment: Any, **numbers: int) -> Any:
    strategy = SimpleNamespace(cluster_environment=environment) if environment else SimpleNamespace()
    plain = {"num_nodes": 1, "node_rank": 0, "world_size": 1, "global_rank": 0, "local_rank": 0}
    return SimpleNamespace(strategy=strategy, **plain | numbers)


def test_a_single_process_and_those_that_one_command_starts_meet_nobody() -> None:
    assert meet(trainer(None), RUN, ()) is None
    assert meet(trainer(LightningEnvironment(), world_size=2), RUN, ()) is None
    second = {"num_nodes": 2, "world_size": 4, "global_rank": 1, "local_rank": 1}
    assert meet(trainer(LightningEnvironment(), **second), RUN, ()) is None
    compare_data(None, None)


def test_all_tasks_of_slurm_meet_and_one_process_of_each_node_that_is_started_by_hand() -> None:
    numbers = {"num_nodes": 2, "world_size": 8, "global_rank": 4, "node_rank": 1}
    for environment, rank, count in ((SLURMEnvironment(), 4, 8), (LightningEnvironment(), 1, 2)):
        meeting: Any = meet(trainer(environment, **numbers), RUN, ())
        assert meeting.args[:3] == (("node0", 29400), rank, count)


def test_a_time_to_wait_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEYDEN_JOIN_SECONDS", "a minute")
    with pytest.raises(UserError, match="LEYDEN_JOIN_SECONDS is a minute, but must be a number of seconds"):
        meet(trainer(SLURMEnvironment(), node_rank=0, num_nodes=1, global_rank=1, world_size=2, local_rank=1), RUN, ())


def test_versions_code_options_checkpoint_and_data_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    data = SyntheticClustersDataModule(num_samples=300, val_size=100)
    data.setup("fit")
    meeting: Any = meet(trainer(SLURMEnvironment(), world_size=2), RUN, (data,))
    compare_data(meeting, data)
    facts = meeting.compared["start"]
    assert {"torch", "lightning", "leyden", "Python"} == facts["versions"].keys()
    assert facts["options"] == {"--data.batch_size": 16, "--seed_everything": 0}  # without the folder of the data
    assert facts["checkpoint"] == {"a checkpoint of step": None}
    assert "a leyden/cli/main.py with checksum" in facts["code"]
    assert meeting.compared["data"]["data"].keys() == {"train_set", "val_set"}
