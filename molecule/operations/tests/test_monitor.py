"""The views of an operator, on a machine with systemd's own units and journal."""

from __future__ import annotations

from conftest import MACHINE, NUMBER, answers, ctl, told
from machine import playbook, typed, wait_for


def test_every_host_and_client_is_in_the_tables() -> None:
    assert answers()

    run = playbook("monitor.yml", days=7)

    assert (run.code, run.changed) == (0, 0), run.output
    print(run.output.partition("TASK [The tables]")[2].partition("TASK")[0])
    assert MACHINE in run.output
    assert "la-cocina" in run.output


def test_one_client_and_an_unknown_one() -> None:
    run = playbook("monitor.yml", client="la-cocina")
    assert run.code == 0, run.output

    unknown = playbook("monitor.yml", client="nobody")
    assert unknown.code != 0
    assert "nobody" in told(unknown.output)


def test_each_view_is_a_command() -> None:
    assert answers()
    bot = next(one for one in ctl("bots list") if one["twilio_phone_number"] == NUMBER)

    figures = ctl("stats --client la-cocina --days 2")
    assert figures["clients"][0]["turns"]["replied"] > 0
    server = ctl("server")
    assert server["faults"] == []
    assert "la-cocina" in typed(MACHINE, "sudo horizonctl monitor --once")
    wait_for(
        lambda: bot["id"] in typed(MACHINE, "sudo horizonctl logs --client la-cocina -n 50"),
        120,
        "the client's lines in the log",
    )
    assert "Hola" in typed(MACHINE, "sudo horizonctl search Hola --days 1")
