"""The pre-flight: who meets, and what everyone who is there is told where they do not fit together."""

import json
import socket
import threading
import time

import pytest

from hpjax.errors import ConfigError
from hpjax.processes import meeting
from hpjax.processes.detect import Place


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def meet(places: list[Place], seconds: float = 10, delays: tuple[float, ...] = ()) -> tuple[list[object], float]:
    """What each process comes to, a Met or the error's text, and the seconds it took."""
    found: list[object] = [None] * len(places)

    def one(number: int) -> None:
        time.sleep(delays[number] if delays else 0)
        try:
            found[number] = meeting.meet(places[number], seconds)
        except ConfigError as error:
            found[number] = str(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(places))]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return found, time.monotonic() - start


def close(found: list[meeting.Met]) -> None:
    for met in found:
        for channel in met.channels.values():
            channel.close()


def places(number: int, *ids: int) -> list[Place]:
    address = f"127.0.0.1:{free_port()}"
    return [Place(address, number, id_) for id_ in ids]


def test_all_meet_in_whatever_order_they_come():
    for delays in ((0, 0, 0.3, 0), (0.5, 0, 0, 0.2)):
        found, _ = meet(places(4, 0, 1, 2, 3), delays=delays)
        assert len({met.address for met in found}) == 1
        assert [met.local for met in found] == [0, 1, 2, 3]
        assert all(met.neighbours == 4 for met in found)
        assert sorted(found[0].channels) == [1, 2, 3] and sorted(found[2].channels) == [0]
        found[0].channels[2].send({"value": 1})
        assert found[2].channels[0].next(time.monotonic() + 5) == {"value": 1}
        close(found)


def test_they_meet_by_ipv6_too():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6")
    found, _ = meet([Place(f"[::1]:{port}", 2, id_) for id_ in range(2)])
    assert [met.local for met in found] == [0, 1]
    close(found)


def test_a_process_that_does_not_come():
    found, seconds = meet(places(4, 0, 2), seconds=1)
    assert set(found) == {found[0]}
    assert "processes 1, 3 of 4 did not come" in found[0] and "within 1 s" in found[0]
    assert seconds < 4


def test_a_port_of_jax_that_one_cannot_reach(monkeypatch):
    """A firewall that lets through the address alone: JAX would abort in C++."""
    connect, mine = socket.create_connection, places(3, 0, 1, 2)

    def through(address, timeout=None):
        if address[1] != mine[0].port:
            raise TimeoutError("timed out")
        return connect(address, timeout=timeout)

    monkeypatch.setattr(socket, "create_connection", through)
    found, seconds = meet(mine)
    assert len(set(found)) == 1 and isinstance(found[0], str)
    assert "where JAX will listen: timed out; expected all ports open between the hosts of a run" in found[0]
    assert seconds < 5


def test_no_process_0():
    found, seconds = meet(places(3, 1, 2), seconds=1)
    for number in (1, 2):
        assert f"which process {number} cannot reach: connection refused, for 1 s" in found[number - 1]
    assert seconds < 4


@pytest.mark.parametrize("ids", [(0, 1, 1), (0, 0, 1)])
def test_two_processes_with_one_id(ids):
    # The second of two processes 0 finds the first by its port.
    found, seconds = meet(places(3, *ids), delays=(0, 0.3, 0.6))
    twice = ids[1]
    assert all(f"process_id {twice} is taken twice" in text for text in found[:2])
    assert seconds < 30


def test_two_processes_of_other_counts():
    address = f"127.0.0.1:{free_port()}"
    found, _ = meet([Place(address, 2, 0), Place(address, 3, 1)])
    assert set(found) == {"num_processes is 3 in process 1, 2 in process 0; expected the same in all"}


def test_two_versions(monkeypatch):
    said = meeting.hello
    monkeypatch.setattr(meeting, "hello", lambda p: {**said(p), "versions": f"JAX {p.id}"})
    found, _ = meet(places(2, 0, 1))
    assert set(found) == {"versions is JAX 1 in process 1, JAX 0 in process 0; expected the same in all"}


def test_a_stranger_at_the_door_is_passed_over(monkeypatch):
    """Port scanners and browsers: who is silent, and who says something else."""
    monkeypatch.setattr(meeting, "SECONDS_FOR_A_HELLO", 0.3)
    mine = places(2, 0, 1)

    def knock() -> None:
        time.sleep(0.2)
        with socket.create_connection((mine[0].host, mine[0].port)) as silent:
            for line in (b"GET / HTTP/1.1\r\n\r\n", json.dumps([1]).encode() + b"\n"):
                with socket.create_connection((mine[0].host, mine[0].port)) as loud:
                    loud.sendall(line)
            silent.recv(10)

    stranger = threading.Thread(target=knock)
    stranger.start()
    found, _ = meet(mine, delays=(0, 0.8))
    stranger.join()
    assert [met.local for met in found] == [0, 1]
    close(found)


def test_something_else_answers_at_the_address():
    mine = places(2, 1)[0]
    with socket.create_server((mine.host, mine.port)) as other:

        def answer() -> None:
            with other.accept()[0] as connection:
                connection.sendall(b"220 mail\r\n")
                connection.recv(10)

        threading.Thread(target=answer, daemon=True).start()
        found, _ = meet([mine], seconds=1)
    assert "where something answers that is no process 0 of this run" in found[0]
