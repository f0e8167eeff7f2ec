"""Which of torchrun's processes go on, and what they then believe."""

import os

import pytest

from pipeline import world

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@pytest.fixture
def started(monkeypatch):
    """started(rank, processes, on each machine): as torchrun starts it."""

    def start(rank, processes, local):
        values = (rank, rank % local, processes, local)
        for name, value in zip(NAMES, values):
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(world, "RANK", rank)
        monkeypatch.setattr(world, "WORLD", processes)

    return start


@pytest.mark.parametrize(
    "units, most, used", [(32, 8, 8), (2, 8, 2), (6, 4, 3), (7, 4, 1), (1, 8, 1), (64, 6, 4)]
)
def test_as_many_processes_as_share_evenly(units, most, used):
    assert world.divisor(units, most) == used


def test_those_that_go_on_are_a_smaller_world(started):
    started(5, 8, 8)
    assert not world.leave(2)
    started(1, 8, 8)
    assert world.leave(2) and world.WORLD == 2
    assert [os.environ[name] for name in NAMES] == ["1", "1", "2", "2"]


def test_the_last_machine_may_keep_fewer_processes(started):
    started(4, 8, 4)  # the first process of the second machine
    assert world.leave(6) and [os.environ[name] for name in NAMES] == ["4", "0", "6", "2"]
    started(1, 8, 4)
    assert world.leave(6) and os.environ["LOCAL_WORLD_SIZE"] == "4"


def test_one_that_goes_on_alone_is_a_process_without_torchrun(started):
    started(0, 4, 4)
    assert world.leave(1) and world.WORLD == 1
    assert not any(name in os.environ for name in NAMES)
