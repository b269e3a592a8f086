"""How the processes of a run end: none before the others have come to their end, and one that goes before is lost."""

import atexit
import threading
import time

import pytest

from hpjax.processes.meeting import Met
from hpjax.processes.team import Team
from test_processes_meeting import meet, places


@pytest.fixture
def teams(monkeypatch: pytest.MonkeyPatch):
    """Three processes that have met, as threads of this one, and whom each has lost."""
    monkeypatch.setattr(atexit, "register", lambda hook: hook)
    lost: dict[int, list[int]] = {0: [], 1: [], 2: []}
    monkeypatch.setattr(Team, "_lose", lambda self, id_, how: lost[self.id].append(id_))
    here = places(3, 0, 1, 2)
    met, _ = meet(here)
    assert all(isinstance(one, Met) for one in met)
    made = [Team(place, one) for place, one in zip(here, met, strict=True)]
    yield made, lost
    for one in made:
        one._over.set()
        for channel in one._channels.values():
            channel.close()


def leaving(one: Team) -> threading.Thread:
    thread = threading.Thread(target=one._leave)
    thread.start()
    return thread


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_none_ends_before_all_have_come_to_their_end(teams, order):
    """JAX lets them wait for 30 s, then it aborts them all: what a person does after `hpjax.run` may take longer."""
    made, lost = teams
    gone = [leaving(made[id_]) for id_ in order[:2]]
    for thread in gone:
        thread.join(0.5)
        assert thread.is_alive()
    gone.append(leaving(made[order[2]]))
    for thread in gone:
        thread.join(10)
        assert not thread.is_alive()
    assert not any(lost.values())


def test_one_that_is_killed_while_it_waits_is_lost(teams):
    made, lost = teams
    waiting = leaving(made[1])
    made[1]._channels[0].close()
    end = time.monotonic() + 10
    while not lost[0] and time.monotonic() < end:
        time.sleep(0.01)
    assert lost[0] == [1] and lost[2] == []
    made[1]._over.set()
    waiting.join(10)
