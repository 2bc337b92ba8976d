"""Where the counters are kept, and that a full disk is noticed before it matters."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service import settings as settings_module
from service.metrics import Metrics
from tests.server_process import PATIENCE_S
from tests.unit.loopback_vendor import settings_with

ROOT = Path(__file__).parents[2]
KILOBYTE = 1024


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /dev/shm."""
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(settings_module, "_MEMORY", folder)
    return folder


def test_counters_are_kept_in_memory_unless_a_folder_is_named(memory: Path) -> None:
    folder = settings_with().metrics_folder

    assert folder.parent == memory
    assert folder.name.startswith(f"horizon-bots-{os.getuid()}-")


def test_the_named_folder_is_used(memory: Path, tmp_path: Path) -> None:
    assert settings_with(metrics_dir=tmp_path / "named").metrics_folder == tmp_path / "named"


def test_processes_of_one_working_folder_share_theirs(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here, again = settings_with().metrics_folder, settings_with().metrics_folder
    monkeypatch.chdir(memory)

    assert here == again
    assert here != settings_with().metrics_folder


def test_a_host_without_memory_for_files_has_them_in_var(memory: Path) -> None:
    memory.rmdir()

    assert settings_with().metrics_folder == Path("var/metrics")


def test_what_another_left_in_memory_under_our_name_is_not_used(memory: Path) -> None:
    settings_with().metrics_folder.symlink_to(memory)

    assert settings_with().metrics_folder == Path("var/metrics")


def test_the_folder_is_this_users_alone(tmp_path: Path) -> None:
    done = count_in(tmp_path / "metrics")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "metrics").stat().st_mode & 0o777 == 0o700


def test_the_files_have_their_place_on_the_disk_from_the_start(tmp_path: Path) -> None:
    done = count_in(tmp_path)

    assert done.returncode == 0, done.stderr
    files = [file.stat() for file in tmp_path.glob("*.db")]
    assert [file.st_blocks * 512 for file in files] == [file.st_size for file in files]
    assert len(files) == 2


def test_a_file_that_gets_no_place_is_an_error_that_names_the_setting(
    tmp_path: Path,
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * KILOBYTE, before[1]))
    try:
        with pytest.raises(OSError, match="METRICS_DIR") as caught:
            Metrics(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)

    assert caught.value.errno == errno.EFBIG


def count_in(folder: Path) -> subprocess.CompletedProcess[str]:
    """A process that counts: prometheus_client opens its files once a process."""
    code = (
        "import sys; from pathlib import Path; from service.metrics import Metrics; "
        "metrics = Metrics(Path(sys.argv[1])); metrics.message_taken('accepted', 0.1)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
