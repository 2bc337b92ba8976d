"""Addresses that come in through the API lead to the public internet only."""

from __future__ import annotations

import socket

import pytest

from service.integrations.address_guard import (
    AddressRefusedError,
    check_url,
    is_public,
    refuse_private_host,
    refuse_private_peer,
)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - an address that is judged, not bound
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "fec0::1",
        "192.88.99.1",
        "::ffff:192.88.99.1",
    ],
)
def test_an_address_that_leads_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "url", ["https://crm.example.com", "https://crm.example.com:8443/base/", "https://8.8.8.8"]
)
def test_a_public_https_address_may_be_saved(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://crm.example.com", "https://"),
        ("ftp://crm.example.com", "look like"),
        ("crm.example.com", "look like"),
        ("https://", "look like"),
        ("https://user:secret@crm.example.com", "user name"),
        ("https://crm.example.com?a=1", "query"),
        ("https://crm.example.com#a", "fragment"),
        ("https://crm.example.com:99999", "port"),
        ("https://crm.example.com:0", "port"),
        ("https://crm..com", "look like"),
        ("https://-crm.com", "look like"),
        ("https://[v1.x]", "look like"),
        ("https://[::1", "look like"),
        ("https://crm.example.com\\@127.0.0.1", "plain characters"),
        ("https://crm.example.com\n", "plain characters"),
        ("https://localhost", "public internet"),
        ("https://LOCALHOST.:8443", "public internet"),
        ("https://crm.localhost", "public internet"),
        ("https://127.0.0.1", "public internet"),
        ("https://127.1", "public internet"),
        ("https://2130706433", "public internet"),
        ("https://0x7f000001", "public internet"),
        ("https://169.254.169.254", "public internet"),
        ("https://[::1]", "public internet"),
        ("https://[::ffff:10.0.0.1]", "public internet"),
    ],
)
def test_any_other_address_is_refused_with_a_sentence(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_url(url)


def test_private_addresses_may_be_saved_where_they_are_allowed() -> None:
    check_url("http://127.0.0.1:8803", allow_private=True)


def test_credentials_in_an_address_are_refused_even_where_private_ones_are_allowed() -> None:
    with pytest.raises(ValueError, match="user name"):
        check_url("http://me@127.0.0.1", allow_private=True)


def test_a_host_that_resolves_to_loopback_is_refused_before_connecting() -> None:
    with pytest.raises(AddressRefusedError):
        refuse_private_host("localhost", 443)


def test_a_host_that_does_not_resolve_is_left_to_the_connection() -> None:
    refuse_private_host("nowhere.invalid", 443)


def test_a_connection_to_loopback_is_refused_whatever_name_it_had() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as connected,
        pytest.raises(AddressRefusedError),
    ):
        refuse_private_peer(connected)
