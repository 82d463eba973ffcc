import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

import pytest

from sync_mcp.sandbox import Fault, Sandbox
from tests.serving.stdio.forked import run_forked

EXAMPLES = Path(__file__).parents[2] / "examples"
CREATE = "/v2/generate"
FRAMEWORKS = ("pydantic_ai.mcp", "agents.mcp")

each_example = pytest.mark.parametrize("example", ["pydantic_ai_dubbing.py", "openai_agents.py"])


@pytest.fixture(scope="module")
def module_sandbox() -> Iterator[Sandbox]:
    with Sandbox(job_seconds=0.5) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(module_sandbox: Sandbox) -> Sandbox:
    module_sandbox.reset()
    return module_sandbox


def run_agent(example: str, *arguments: str, typed: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SYNC_") or name == "SYNC_MCP_HOME"
    }
    return run_forked(
        [sys.executable, str(EXAMPLES / example), *arguments],
        inherited | env,
        typed=typed,
        imports=FRAMEWORKS,
    )


def dub(example: str, sandbox: Sandbox, *flags: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    video = sandbox.samples.speaking
    return run_agent(example, video, *flags, typed=typed, SYNC_API_KEY="any", SYNC_BASE_URL=sandbox.url)


def languages_created(sandbox: Sandbox) -> list[str]:
    bodies = [request.body for request in sandbox.requests if request.path == CREATE]
    return sorted(cast(dict[str, Any], body)["dubParams"]["targetLang"] for body in bodies)


@pytest.mark.parametrize(
    ("example", "job_seconds"),
    # The Agents SDK would give up a call after 5 seconds, were it not told otherwise.
    [("pydantic_ai_dubbing.py", 0.5), ("openai_agents.py", 5.5)],
)
def test_an_agent_dubs_a_clip_into_two_languages_and_pays_for_two(
    example: str, job_seconds: float, sandbox: Sandbox
) -> None:
    sandbox.configure(job_seconds=job_seconds)
    done = dub(example, sandbox, typed="y\ny\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert languages_created(sandbox) == ["es", "fr"]
    assert len(sandbox.charges) == 2
    urls = re.findall(r"\b(es|fr): (http\S+)", done.stdout)
    assert [language for language, _ in urls] == ["es", "fr"]
    assert len({url for _, url in urls}) == 2
    for _, url in urls:
        with urlopen(url, timeout=30) as video:
            assert video.headers["content-type"] == "video/mp4"


@each_example
@pytest.mark.parametrize("typed", ["n\n", ""], ids=["no", "nobody there"])
def test_an_agent_creates_nothing_before_its_price_is_agreed_to(
    example: str, typed: str, sandbox: Sandbox
) -> None:
    done = dub(example, sandbox, typed=typed)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(r'^create_generation .*"es".*\nPrice: [\d.]+ USD$', done.stdout, re.MULTILINE)
    assert "Make it?" in done.stdout
    assert "not created" in done.stderr
    assert languages_created(sandbox) == []
    assert sandbox.charges == []


@each_example
def test_an_agent_ends_with_1_and_the_reasons_where_dubs_are_not_made(example: str, sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(path=CREATE, method="POST", job="fail", error="The speech was not understood."))
    sandbox.add_fault(Fault.api_error("account_payment_required", path=CREATE, method="POST"))
    done = dub(example, sandbox, "--yes")
    assert done.returncode == 1
    assert "/outputs/" not in done.stdout
    assert "The speech was not understood." in done.stderr
    assert "No money was spent." in done.stderr
    assert "Traceback" not in done.stderr


@each_example
def test_an_agent_needs_neither_key_nor_network_on_the_servers_own_sandbox(example: str) -> None:
    done = run_agent(example, "--yes")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"\b(es|fr): http://127\.0\.0\.1:", done.stdout) == ["es", "fr"]
