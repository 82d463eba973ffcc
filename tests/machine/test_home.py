"""A folder of the ledger that is not its user's alone."""

import os
from pathlib import Path

import pytest

from sync_mcp.machine.home import open_to_others
from sync_mcp.sandbox import Sandbox
from tests.cli.test_doctor import examined, remedies
from tests.server.host import KEY, hosted

pytestmark = pytest.mark.skipif(os.name != "posix", reason="this system has no modes")


@pytest.fixture
def open_home(home: Path) -> Path:
    home.mkdir()
    home.chmod(0o777)
    return home


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_can_write_to_is_open(home: Path, mode: int) -> None:
    home.mkdir(mode=0o700)
    assert open_to_others(home) is None
    home.chmod(mode)
    assert open_to_others(home) == home


def test_so_is_one_in_a_folder_where_others_can_put_another_in_its_place(tmp_path: Path) -> None:
    shared, home = tmp_path / "shared", tmp_path / "shared" / "home"
    home.mkdir(parents=True, mode=0o700)
    shared.chmod(0o777)
    assert open_to_others(home) == shared
    # There everybody can rename their own alone, as in /tmp.
    shared.chmod(0o1777)
    assert open_to_others(home) is None
    assert open_to_others(shared) == shared


def test_one_that_a_link_leads_to_is_looked_at_itself(tmp_path: Path, open_home: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(open_home)
    assert open_to_others(link) == open_home


def test_one_that_is_not_there_yet_is_made_for_its_user_alone(tmp_path: Path) -> None:
    assert open_to_others(tmp_path / "not" / "there") is None


def test_the_server_warns_of_it_at_its_start(open_home: Path, sandbox: Sandbox) -> None:
    with hosted(env={"SYNC_API_KEY": KEY, "SYNC_BASE_URL": sandbox.url}) as host:
        assert f"others can write to {open_home}" in host.logged(" WARNING ")


@pytest.mark.usefixtures("open_home")
def test_the_sandbox_whose_ledger_lies_elsewhere_does_not() -> None:
    with hosted("--sandbox") as host:
        host.server.process.terminate()
        assert "others can write" not in host.server.all_stderr()


def test_the_doctor_says_what_to_do_about_it(open_home: Path, sandbox: Sandbox) -> None:
    done = examined(SYNC_BASE_URL=sandbox.url, SYNC_API_KEY=KEY)
    assert done.returncode == 1
    assert remedies(done.stdout).keys() == {"home"}
    assert f"chmod go-w {open_home}" in remedies(done.stdout)["home"]
