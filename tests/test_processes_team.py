"""How the processes of a run end: none before the others have come to their end, and one that goes before is lost."""

import atexit
import contextlib
import socket
import threading
import time

import pytest

from hpjax.processes.channel import Channel
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
    before = threading.enumerate()
    made = [Team(place, one) for place, one in zip(here, met, strict=True)]
    watching = [thread for thread in threading.enumerate() if thread not in before]
    yield made, lost
    for one in made:
        one._over.set()
    ended = [end(channel) for one in made for channel in one._channels.values()]
    # What is closed while a thread waits for it is no socket any more, and the thread ends with an error.
    for thread in watching:
        thread.join(10)
        assert not thread.is_alive()
    for channel in ended:
        channel.close()


def end(channel: Channel) -> Channel:
    """Ends a connection as the end of its process does; both sides notice it."""
    with contextlib.suppress(OSError):
        channel._connection.shutdown(socket.SHUT_RDWR)
    return channel


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
    end(made[1]._channels[0])
    until = time.monotonic() + 10
    while not lost[0] and time.monotonic() < until:
        time.sleep(0.01)
    assert lost[0] == [1] and lost[2] == []
    made[1]._over.set()
    waiting.join(10)
