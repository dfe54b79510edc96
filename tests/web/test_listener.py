"""Where the server listens."""

import asyncio
import re
import resource
import socket
from contextlib import closing

import pytest
from support.logs import capture_logs

from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.units import Address
from nextmv_exporter.web.listener import Acceptor, listen, max_connections

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 on this machine")


def reaches(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


@needs_ipv6
def test_without_a_host_it_listens_on_all_interfaces_of_both_kinds() -> None:
    with closing(listen(Address("", 0))) as listener:
        port = listener.getsockname()[1]
        assert reaches("127.0.0.1", port)
        assert reaches("::1", port)


def test_without_a_host_it_listens_also_where_there_is_no_ipv6(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with closing(listen(Address("", 0))) as listener:
        assert reaches("127.0.0.1", listener.getsockname()[1])


@needs_ipv6
def test_with_an_address_it_listens_there_alone() -> None:
    with closing(listen(Address("::1", 0))) as listener:
        port = listener.getsockname()[1]
        assert reaches("::1", port)
        assert not reaches("127.0.0.1", port)


def test_a_name_stands_for_its_address() -> None:
    with closing(listen(Address("localhost", 0))) as listener:
        assert reaches("127.0.0.1", listener.getsockname()[1])


def test_a_port_that_was_just_left_can_be_taken_again() -> None:
    with closing(listen(Address("127.0.0.1", 0))) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
        with socket.create_connection(address, timeout=5):
            left, _ = listener.accept()
            left.close()  # first, so that the port lingers
    with closing(listen(address)):
        assert reaches(*address)


async def accept_in_vain(listener: socket.socket) -> None:
    acceptor = Acceptor(asyncio.Protocol, None, (), {}, limit=1)
    acceptor.start(listener)
    acceptor._accept(listener)
    assert asyncio.get_running_loop().remove_reader(listener)  # still accepting


def test_a_connection_that_another_process_took_is_nothing_to_log() -> None:
    """As where several accept from the same socket: it was readable, and is no longer."""
    with closing(listen(Address("127.0.0.1", 0))) as listener, capture_logs() as log:
        asyncio.run(accept_in_vain(listener))
    assert log == []


def test_a_connection_that_its_client_has_aborted_is_nothing_to_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def aborted(_: socket.socket) -> None:
        raise ConnectionAbortedError

    monkeypatch.setattr(socket.socket, "accept", aborted)
    with closing(listen(Address("127.0.0.1", 0))) as listener, capture_logs() as log:
        asyncio.run(accept_in_vain(listener))
    assert log == []


@pytest.mark.parametrize(
    ("descriptors", "connections"),
    [(10, 4), (60, 21), (256, 168), (1_000_000, 1000), (resource.RLIM_INFINITY, 1000)],
)
def test_a_quarter_of_the_descriptors_and_some_more_are_not_for_clients(
    descriptors: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert max_connections() == connections


@pytest.mark.parametrize(
    ("address", "where", "reason"),
    [
        (Address("192.0.2.1", 0), "192.0.2.1:0", "Cannot assign requested address"),
        (Address("2001:db8::1", 0), "[2001:db8::1]:0", ".*"),
        (
            Address("no-such-host.invalid", 80),
            "no-such-host.invalid:80",
            "Name or service not known|Temporary failure in name resolution",
        ),
    ],
)
def test_an_address_that_is_not_this_machines_is_refused_with_the_systems_text(
    address: Address, where: str, reason: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        listen(address)
    start, _, rest = str(caught.value).partition(f"{where}: ")
    assert start == "can't listen on "
    assert re.fullmatch(f"({reason}): choose another --web.listen-address", rest)
    assert "attempting" not in rest
