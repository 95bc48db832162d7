import os
import time

import pytest
import torch

from interp.surgery.guarding import guarded


def outcomes(tasks, **how):
    found = dict(guarded(tasks, **how))
    assert sorted(found) == list(range(len(tasks)))
    return [found[index] for index in range(len(tasks))]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_task_has_its_outcome(workers):
    found = outcomes([lambda n=n: n * n for n in range(7)], limit_s=20.0, workers=workers)
    assert [one.value for one in found] == [n * n for n in range(7)]


def test_errors_exits_and_hangs_are_told_apart_and_the_rest_goes_on():
    def fail():
        raise KeyError("gone")

    tasks = [fail, lambda: os._exit(7), lambda: time.sleep(60), lambda: "fine", exit]
    found = outcomes(tasks, limit_s=1.0, workers=2)
    assert [one.status for one in found] == ["error", "error", "timeout", "done", "error"]
    assert found[0].detail == "KeyError: 'gone'"
    assert found[1].detail == "the process ended with code 7"
    assert found[4].detail.startswith("SystemExit")


def test_a_task_that_takes_too_much_memory_is_an_error():
    def greedy():
        return torch.ones(2**28).sum().item()  # 1 GiB

    found = outcomes([greedy, lambda: 1], limit_s=20.0, workers=1, memory_gib=0.5)
    assert [one.status for one in found] == ["error", "done"]
    assert "memory" in found[0].detail


def test_nothing_a_child_does_comes_back():
    weights = torch.zeros(3)

    def spoil():
        weights.fill_(1.0)
        return weights.sum().item()

    assert [one.value for one in outcomes([spoil], limit_s=20.0, workers=1)] == [3.0]
    assert weights.sum() == 0


def test_children_end_when_the_caller_stops_listening():
    runs = guarded([lambda: os.getpid(), lambda: time.sleep(60)], limit_s=60.0, workers=2)
    _, first = next(runs)
    runs.close()
    for _ in range(100):
        if not os.path.exists(f"/proc/{first.value}"):  # noqa: PTH110
            break
        time.sleep(0.02)
    else:
        pytest.fail("the child is still there")
