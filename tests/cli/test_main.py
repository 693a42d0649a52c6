"""What `main` does with a mistake where several ranks make it."""

import socket
import time

import pytest
from lightning.pytorch.utilities import rank_zero_only

from leyden.cli.main import SECONDS_FOR_RANK_ZERO, main


def test_another_rank_than_the_first_waits_before_it_reports_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Rank 0 has made it too, as a rule: then what has started both kills this one meanwhile."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setattr(rank_zero_only, "rank", 3)
    assert main(["fit", "--config", "nowhere.yaml"]) == 2
    assert waited == [SECONDS_FOR_RANK_ZERO]
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: rank 3 on {socket.gethostname()}: ")
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    assert main(["fit", "--config", "nowhere.yaml"]) == 2
    assert len(waited) == 1
    assert capfd.readouterr().err.startswith("error: ")
