"""Versions are taken from a Git checkout; what is wrong with it is said with what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.modules import LIBRARY


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com", *arguments]
    return subprocess.check_output(command, cwd=folder, text=True).strip()


def commit(folder: Path, name: str) -> str:
    (folder / "service/version").write_text(name)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", name)
    return git(folder, "rev-parse", "HEAD")


def files(folder: Path) -> Path:
    (folder / "service").mkdir(parents=True)
    (folder / "service/requirements.txt").write_text("falcon==4.0\n")
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = files(tmp_path / "checkout")
    git(folder, "init", "--quiet")
    return folder


def build(
    folder: Path, environment: dict[str, str] | None = None, *, check: bool = False, **params: Any
) -> dict[str, Any]:
    arguments = {
        "repository": str(folder),
        "folder": str(folder.parent / "builds"),
        "_ansible_check_mode": check,
        **params,
    }
    done = subprocess.run(
        [sys.executable, str(LIBRARY / "horizon_build.py")],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        # What is above the checkout in the file system is no part of the test.
        env={**os.environ, "GIT_CEILING_DIRECTORIES": "", **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_version_is_packed_once(checkout: Path) -> None:
    head = commit(checkout, "first")

    answer = build(checkout)

    assert (answer["changed"], answer["commit"]) == (True, head)
    assert Path(answer["archive"]).exists()
    assert not build(checkout)["changed"]


def test_a_folder_without_git_is_no_checkout(tmp_path: Path) -> None:
    """As a downloaded archive of the project is."""
    folder = files(tmp_path / "downloaded")

    message = build(folder)["msg"]

    assert f"{folder} is not a Git checkout" in message
    assert "git clone" in message
    assert "inventories" in message


def test_a_folder_inside_another_checkout_is_none_of_it(checkout: Path) -> None:
    commit(checkout, "first")
    folder = files(checkout / "downloaded")

    message = build(folder)["msg"]

    assert f"{folder} is not a Git checkout" in message
    assert str(checkout) in message


def test_the_words_of_git_in_another_language_are_understood(tmp_path: Path) -> None:
    spanish = {"LANGUAGE": "es", "LC_ALL": "es_ES.UTF-8", "LANG": "es_ES.UTF-8"}

    assert "git clone" in build(files(tmp_path / "downloaded"), spanish)["msg"]


def test_a_checkout_of_another_user_is_said_to_be_one(checkout: Path) -> None:
    commit(checkout, "first")

    message = build(checkout, {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"})["msg"]

    assert "belongs to another user" in message
    assert f"git config --global --add safe.directory {checkout}" in message


def test_a_machine_without_git_is_told_how_to_get_it(checkout: Path, tmp_path: Path) -> None:
    commit(checkout, "first")
    (tmp_path / "nothing").mkdir()

    message = build(checkout, {"PATH": str(tmp_path / "nothing")})["msg"]

    assert "git is not installed on the machine that runs Ansible" in message
    assert "apt-get install git" in message


def test_a_checkout_without_a_commit_says_so(checkout: Path) -> None:
    assert "has no commit yet" in build(checkout)["msg"]


def test_a_version_that_is_unknown_may_have_to_be_fetched(checkout: Path) -> None:
    commit(checkout, "first")

    message = build(checkout, version="v9")["msg"]

    assert "no version v9" in message
    assert "git fetch --tags" in message
    assert "shallow" not in message


@pytest.fixture
def shallow(checkout: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "shallow"
    commit(checkout, "first")
    commit(checkout, "second")
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{checkout}", str(folder))
    return folder


def test_a_version_that_a_shallow_clone_lacks_is_fetched_with_the_rest(
    checkout: Path, shallow: Path
) -> None:
    first = git(checkout, "rev-parse", "HEAD~1")

    message = build(shallow, version=first)["msg"]

    assert "git fetch --unshallow --tags" in message


@pytest.mark.parametrize("version", ["HEAD", "named"])
def test_a_commit_that_is_older_than_the_running_one_is_refused(
    checkout: Path, version: str
) -> None:
    older = commit(checkout, "older")
    running = commit(checkout, "newer")
    git(checkout, "checkout", "--quiet", older)
    git(checkout, "tag", "named")

    refused = build(checkout, version=version, running=running)

    assert refused["failed"]
    assert f"is older than {running[:12]}, which runs" in refused["msg"]
    for remedy in ("git pull", "rollback.yml", "-e app_allow_older=true"):
        assert remedy in refused["msg"]
    assert not (checkout.parent / "builds").exists()
    assert build(checkout, version=version, running=running, allow_older=True)["commit"] == older


def test_check_mode_refuses_an_older_commit_too(checkout: Path) -> None:
    older = commit(checkout, "older")
    running = commit(checkout, "newer")

    assert build(checkout, version=older, running=running, check=True)["failed"]


def test_the_same_and_a_newer_commit_are_shipped(checkout: Path) -> None:
    first = commit(checkout, "first")
    second = commit(checkout, "second")

    for running in (first, second, ""):
        assert build(checkout, running=running)["commit"] == second


def test_a_commit_beside_the_running_one_is_refused(checkout: Path) -> None:
    commit(checkout, "first")
    git(checkout, "checkout", "--quiet", "-b", "side")
    running = commit(checkout, "side")
    git(checkout, "checkout", "--quiet", "-")
    commit(checkout, "main")

    message = build(checkout, running=running)["msg"]

    assert f"does not hold {running[:12]}, which runs" in message
    assert "-e app_allow_older=true" in message


def test_a_running_commit_that_the_checkout_does_not_know_is_fetched_first(checkout: Path) -> None:
    commit(checkout, "first")
    running = "f" * 40

    message = build(checkout, running=running)["msg"]

    assert f"{running[:12]}, which runs, is not in this checkout" in message
    assert "git fetch" in message
    assert "-e app_allow_older=true" in message
    assert "commit" in build(checkout, running=running, allow_older=True)


def test_a_shallow_clone_cannot_tell_which_is_older(checkout: Path, shallow: Path) -> None:
    """Its newest commit seems to have nothing before it."""
    first = git(checkout, "rev-parse", "HEAD~1")

    assert "git fetch --unshallow" in build(shallow, running=first)["msg"]


def test_a_repository_that_git_cannot_read_is_told_in_its_own_words(checkout: Path) -> None:
    commit(checkout, "first")
    shutil.rmtree(checkout / ".git/objects")
    (checkout / ".git/objects").mkdir()

    assert build(checkout)["failed"]
