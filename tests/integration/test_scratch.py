"""A drill's servers end with the process that has started them, also when that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.server_process import wait_until

ROOT = Path(__file__).parents[2]


@pytest.mark.servers
def test_a_killed_drill_leaves_no_server(tmp_path: Path) -> None:
    starts_one_and_waits = dedent(
        """
        import sys, time
        from pathlib import Path
        from service.scratch import scratch_redis
        with scratch_redis(Path(sys.argv[1]), None):
            print("ready", flush=True)
            time.sleep(60)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", starts_one_and_waits, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    ) as drill:
        assert drill.stdout is not None
        assert drill.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{drill.pid}/task/{drill.pid}/children").read_text().split()
        (server,) = map(int, children)

        drill.kill()

    wait_until(lambda: not Path(f"/proc/{server}/fd/0").exists(), "the server's end")
