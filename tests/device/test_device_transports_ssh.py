"""Addresses of devices, the `ssh` command that is run, and what its failures mean."""

from __future__ import annotations

import itertools

import pytest

from tledge.device import transport
from tledge.device.transports import ssh
from tledge.errors import RecipeError


@pytest.mark.parametrize(
    ("url", "user", "host", "port"),
    [
        ("ssh://pi@kitchen:2222", "pi", "kitchen", 2222),
        ("ssh://kitchen", None, "kitchen", None),
        ("ssh://kitchen.local/", None, "kitchen.local", None),
        ("ssh://me@10.0.0.7", "me", "10.0.0.7", None),
        ("ssh://pi@[fe80::1%eth0]:22", "pi", "fe80::1%eth0", 22),
        ("ssh://[::1]", None, "::1", None),
    ],
)
def test_an_address_is_taken_apart(url, user, host, port):
    found = transport.of(url, [])
    assert found == ssh.Ssh(host, user, port)
    assert found.name == url.removeprefix("ssh://").rstrip("/")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kitchen", "'kitchen' does not start with a known way to a device (ssh:)"),
        ("adb:1234", "known way to a device (ssh:)"),
        ("transport:x", "known way to a device"),
        ("ssh:kitchen", "expected ssh://user@host:port"),
        ("ssh://", "expected ssh://user@host:port"),
        ("ssh://pi:secret@kitchen", "it holds a password, which ssh does not take; use a key"),
        ("ssh://kitchen/home/pi", "it holds a path"),
        ("ssh://fe80::1", "an IPv6 address stands in brackets"),
        ("ssh://kitchen:0", "the port is 0; expected one from 1 to 65535"),
        ("ssh://kitchen:65536", "the port is 65536"),
        ("ssh://kitchen:ssh", "expected ssh://user@host:port"),
        ("ssh://-oProxyCommand=x", "expected ssh://user@host:port"),
        ("ssh://-F", "would be an option of ssh"),
        ("ssh://-l@kitchen", "would be an option of ssh"),
        ("ssh://kit$(x)chen", "expected ssh://user@host:port"),
        ("ssh://kitchen\n", "expected ssh://user@host:port"),
        ("ssh://pi@kitchen;x", "expected ssh://user@host:port"),
    ],
)
def test_other_addresses_are_refused(url, said):
    with pytest.raises(RecipeError) as caught:
        transport.of(url, [])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["IdentityFile", "=x", "-oX=y", "Identity File=x", "A=b\nProxyCommand=x"])
def test_options_are_settings(option):
    with pytest.raises(RecipeError, match="expected KEY=VALUE"):
        transport.of("ssh://kitchen", [option])


def test_the_command_asks_nothing_and_accepts_no_unknown_host():
    command = ssh.connect("ssh://pi@[::1]:2222", ["IdentityFile=/my key"]).command("exec python3")
    assert command[-3:] == ["--", "::1", "exec python3"]
    assert command[command.index("-p") + 1] == "2222"
    assert command[command.index("-l") + 1] == "pi"
    settings = [after for before, after in itertools.pairwise(command) if before == "-o"]
    assert settings[0] == "IdentityFile=/my key"  # of two values ssh takes the first
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "ForwardAgent=no", "ConnectTimeout=10"} <= set(settings)
    assert not {"-p", "-l"} & set(ssh.connect("ssh://kitchen").command("x"))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "ssh: connect to host k port 22: No route to host\r\n",
            "it cannot be reached (ssh: connect to host k port 22",
        ),
        ("ssh: connect to host k port 22: Connection timed out\r\n", "it does not answer ("),
        ("something new\n", "something new"),
        ("", "the connection was closed"),
    ],
)
def test_what_kept_a_connection_from_being_made(said, reason):
    explained = ssh.connect("ssh://k").explain(255, said)
    assert explained.startswith(reason)
    assert "\n" not in explained
    assert "\r" not in explained


def test_an_exit_code_of_the_far_command_is_not_the_connections():
    assert ssh.connect("ssh://k").explain(127, "Connection refused") is None
