"""The flag --root: one folder each time it is given, in place of those of SYNC_MCP_MEDIA_ROOTS."""

import json
import shutil
from pathlib import Path

from sync_mcp.sandbox.media.samples import sample
from tests.cli.test_hosts import config
from tests.server.host import hosted, text


def test_each_folder_of_a_flag_is_open_and_those_of_the_variable_no_more(tmp_path: Path) -> None:
    first, second, named = (tmp_path / name for name in ("first", "second clips", "named"))
    for folder in (first, second, named):
        folder.mkdir()
        shutil.copy(sample("speaker.jpg"), folder)
    flags = ["--root", str(first), "--root", str(second)]
    with hosted("--sandbox", *flags, env={"SYNC_MCP_MEDIA_ROOTS": str(named)}) as host:
        for folder in (first, second):
            result = host.call("upload_asset", path=str(folder / "speaker.jpg"))
            assert "isError" not in result or not result["isError"], text(result)
        refused = host.call("upload_asset", path=str(named / "speaker.jpg"))
        assert refused["isError"]


def test_the_folders_stand_in_what_a_host_is_told() -> None:
    done = config("claude-desktop", "--sandbox", "--root", "~/Movies", "--root", "~/My clips")
    assert (done.returncode, done.stderr) == (0, "")
    [server] = json.loads(done.stdout[done.stdout.index("{") :])["mcpServers"].values()
    assert server["args"] == ["--root", "~/Movies", "--root", "~/My clips", "--sandbox"]


def test_the_folders_of_the_variable_stand_in_what_a_host_is_told() -> None:
    done = config("claude-desktop", "--sandbox", SYNC_MCP_MEDIA_ROOTS="~/Movies")
    assert '"--root",' in done.stdout
    assert done.stderr == ""
