"""What is built says the same of the project everywhere, and holds what it must."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from sync_mcp import __version__
from sync_mcp.settings import Settings
from sync_mcp.tools.prompts import PROMPTS
from tests.docs.generate import PARTS
from tests.package.build import BUNDLE_FILES, check, write_bundle, write_server
from tests.package.facts import PLACEHOLDER, ROOT, SOURCES, Facts
from tests.package.sbom import describe

WAIT_SECONDS = 120
FACTS = Facts.read()
_TEXTS = (".md", ".json", ".toml", ".yaml", ".yml", ".py", ".txt", ".in", "")
_ADDRESSES = re.compile(r"https://github\.com/[\w.-]+/sync[-_]mcp|io\.github\.[\w-]+/sync[-_]mcp")

in_a_clone = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git does not know these files")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make package` builds, with the packing of the bundle by this file."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        timeout=WAIT_SECONDS,
        check=True,
    )
    pack(folder)
    return folder


def pack(folder: Path, facts: Facts = FACTS) -> None:
    place = folder.parent / f"bundle of {folder.name}"
    place.mkdir(exist_ok=True)
    write_bundle(place, facts)
    with zipfile.ZipFile(folder / facts.bundle, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name in BUNDLE_FILES:
            bundle.write(place / name, name)
    write_server(folder, facts)


def metadata(dist: Path) -> Message:
    with zipfile.ZipFile(dist / FACTS.wheel) as wheel:
        [place] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_string(wheel.read(place).decode())


def manifest(dist: Path) -> dict[str, Any]:
    with zipfile.ZipFile(dist / FACTS.bundle) as bundle:
        return json.loads(bundle.read("manifest.json"))


def server(dist: Path) -> dict[str, Any]:
    return json.loads((dist / "server.json").read_text(encoding="utf-8"))


def test_the_version_is_the_same_in_all_five_places(dist: Path) -> None:
    with zipfile.ZipFile(dist / FACTS.bundle) as bundle:
        pinned = tomllib.loads(bundle.read("pyproject.toml").decode())["project"]
    entry = server(dist)
    told = [
        metadata(dist)["Version"],
        manifest(dist)["version"],
        pinned["version"],
        entry["version"],
        *(package["version"] for package in entry["packages"]),
    ]
    assert told == [__version__] * 6
    assert pinned["dependencies"] == [f"sync-mcp[media]=={__version__}"]


def test_no_source_of_the_package_has_a_version_of_its_own() -> None:
    sources = [SOURCES / "server.json", *(SOURCES / "bundle").iterdir(), ROOT / "pyproject.toml"]
    for source in sources:
        assert f'"{__version__}"'.encode() not in source.read_bytes(), source


@in_a_clone
def test_each_part_holds_what_it_must_and_nothing_else(dist: Path) -> None:
    check(dist, FACTS)


@in_a_clone
def test_a_file_too_much_or_one_missing_is_told(dist: Path, tmp_path: Path) -> None:
    for name in (FACTS.wheel, FACTS.sdist, FACTS.bundle, "server.json"):
        (tmp_path / name).write_bytes((dist / name).read_bytes())
    with zipfile.ZipFile(tmp_path / FACTS.bundle, "a") as bundle:
        bundle.writestr(".env", "SYNC_API_KEY=secret")
    with pytest.raises(ValueError, match=r"too much: \['\.env'\]"):
        check(tmp_path, FACTS)
    (tmp_path / "server.json").unlink()
    with pytest.raises(ValueError, match=r"missing: \['server\.json'\]"):
        check(tmp_path, FACTS)


def test_the_bundle_asks_for_key_folders_budget_and_sandbox(dist: Path) -> None:
    told = manifest(dist)
    fields = told["user_config"]
    assert fields.keys() == {"api_key", "sandbox", "folders", "budget"}
    assert all(field["description"] for field in fields.values())
    assert fields["api_key"]["sensitive"]
    assert (fields["folders"]["type"], fields["folders"]["multiple"]) == ("directory", True)
    assert fields["budget"]["default"] == 20
    assert fields["sandbox"]["default"] is True
    start = told["server"]["mcp_config"]
    assert start["env"].keys() <= set(Settings.VARIABLES.values())
    used = set(re.findall(r"\$\{user_config\.(\w+)\}", json.dumps(start)))
    assert used == fields.keys()


def test_the_bundle_is_of_type_uv_and_has_what_directories_ask_for(dist: Path) -> None:
    told = manifest(dist)
    assert (told["manifest_version"], told["server"]["type"]) == ("0.4", "uv")
    assert (told["server"]["mcp_config"]["command"], told["server"]["mcp_config"]["args"][0]) == ("uv", "run")
    assert told["icon"] in BUNDLE_FILES
    assert "https://sync.so/privacy" in told["privacy_policies"]
    assert told["_meta"]["io.modelcontextprotocol.registry"]["name"] == server(dist)["name"]
    assert "Not yet run against the live API." in told["long_description"]


def test_the_prompts_of_the_bundle_are_those_of_the_server(dist: Path) -> None:
    given = {"clip": "a.mp4", "language": "French", "script": "Hi.", "voice": "warm", "speech": "a.wav"}
    given |= {"first": "sync-3", "second": "lipsync-2"}
    told = manifest(dist)["prompts"]
    assert [prompt["name"] for prompt in told] == list(PROMPTS) == ["dub", "say", "compare"]
    for prompt in told:
        chosen = {name: given[name] for name in prompt["arguments"]}
        filled = prompt["text"]
        for name, value in chosen.items():
            filled = filled.replace(f"${{arguments.{name}}}", value)
        assert filled == PROMPTS[prompt["name"]].fill(chosen)
        assert prompt["description"] == PROMPTS[prompt["name"]].description


def test_the_registry_entry_names_the_index_and_the_bundle_by_its_digest(dist: Path) -> None:
    entry = server(dist)
    index, bundle = entry["packages"]
    assert (index["registryType"], index["identifier"]) == ("pypi", metadata(dist)["Name"])
    assert bundle["registryType"] == "mcpb"
    assert bundle["identifier"].endswith(f"/v{__version__}/{FACTS.bundle}")
    assert re.fullmatch(r"[0-9a-f]{64}", bundle["fileSha256"])
    assert len(entry["description"]) <= 100
    assert {one["name"] for one in index["environmentVariables"]} <= set(Settings.VARIABLES.values())


def test_the_readme_on_the_index_carries_the_marker_and_only_whole_links(dist: Path) -> None:
    text = str(metadata(dist).get_payload())
    assert f"<!-- mcp-name: {server(dist)['name']} -->" in text
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) > 5
    assert [target for target in targets if not target.startswith("https://")] == []
    for picture, target in re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", text):
        if target.startswith(FACTS.repository):
            how, tag, place = target.removeprefix(f"{FACTS.repository}/").split("/", 2)
            assert (how, tag) == ("raw" if picture else "blob", f"v{__version__}")
            assert (ROOT / place.partition("#")[0]).exists(), target


def test_the_metadata_names_authors_as_the_licence_does_and_every_python(dist: Path) -> None:
    told = metadata(dist)
    assert f"(c) 2026 {told['Author']}" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    versions = [name.rpartition(" :: ")[2] for name in told.get_all("Classifier", []) if ":: 3." in name]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    addresses = [url.partition(", ") for url in told.get_all("Project-URL", [])]
    assert {name for name, _, _ in addresses} == {
        "Homepage",
        "Documentation",
        "Changelog",
        "Issues",
        "Source",
    }
    assert all(url.startswith(FACTS.repository) for _, _, url in addresses)
    assert len(told["Keywords"].split(",")) >= 5


@in_a_clone
def test_the_address_stands_in_one_place_and_what_else_names_it_is_made_from_it() -> None:
    # README.md has it in its generated parts, which a test of its own compares.
    made = {"pyproject.toml", "README.md"}
    named = {
        str(path.relative_to(ROOT))
        for path in _committed()
        if path.suffix in _TEXTS and _ADDRESSES.search(path.read_text(encoding="utf-8"))
    }
    assert named == made
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert _ADDRESSES.findall(text) == [FACTS.repository]


def _committed() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=WAIT_SECONDS
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_a_release_is_refused_while_the_address_is_a_placeholder_or_the_tag_another() -> None:
    def released(tag: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tests.package.release", tag],
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            timeout=WAIT_SECONDS,
        )
        assert done.returncode == (1 if done.stderr else 0)
        return done.stderr

    assert (PLACEHOLDER in released(f"v{__version__}")) == (FACTS.owner == PLACEHOLDER)
    assert "v9.9.9" in released("v9.9.9")


def test_another_address_changes_every_text(tmp_path: Path) -> None:
    folder = tmp_path / "dist"
    folder.mkdir()
    other = Facts(version="3.2.1", repository="https://github.com/someone/else", is_on_index=True)
    pack(folder, other)
    with zipfile.ZipFile(folder / other.bundle) as bundle:
        texts = [bundle.read(name).decode() for name in BUNDLE_FILES if not name.endswith(".png")]
    texts.append((folder / "server.json").read_text(encoding="utf-8"))
    assert not any(PLACEHOLDER in text or FACTS.version in text or "@" in text for text in texts)
    assert '"name": "io.github.someone/else"' in texts[-1]


def test_a_text_names_the_index_only_once_it_has_the_project() -> None:
    known = Facts(version="1.0.0", repository="https://github.com/someone/else", is_on_index=True)
    unknown = Facts(version="1.0.0", repository="https://github.com/someone/else", is_on_index=False)
    assert known.requirement == "sync-mcp[media]"
    assert unknown.requirement == "sync-mcp[media] @ git+https://github.com/someone/else"
    if not FACTS.is_on_index:
        for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"uvx (--from )?'?sync-mcp(\[media\])?'?(?! @)(\s|$)", text, re.MULTILINE), (
                path
            )
            assert not re.search(r"(pip|pipx|uv tool) install '?sync-mcp", text), path


def test_the_day_after_one_setting_changes_the_line_of_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    def line(is_on_index: bool) -> str:
        facts = Facts(version="1.0.0", repository="https://github.com/someone/else", is_on_index=is_on_index)
        monkeypatch.setattr(Facts, "read", lambda: facts)
        return PARTS["install"]()

    with_uv = "uvx --from 'sync-mcp[media]' sync-mcp"
    into_a_host = f"claude mcp add sync-sandbox -- {with_uv} --sandbox"
    assert line(is_on_index=True) == f"```sh\n{with_uv} demo\n{into_a_host}\n```"
    assert "Nothing is published yet" not in line(is_on_index=False)


def test_a_placeholder_of_an_address_is_called_one() -> None:
    assert ("Nothing is published yet" in PARTS["install"]()) == (PLACEHOLDER in Facts.read().repository)


def test_the_image_runs_as_nobody_with_variables_that_exist_and_without_a_shell() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 2
    assert "\nUSER 10001:10001\n" in text
    for command in re.findall(r"^(?:RUN|ENTRYPOINT|VOLUME|\s+CMD) (.*)", text, re.MULTILINE):
        assert isinstance(json.loads(command), list)
    compose = (ROOT / "examples" / "compose.yaml").read_text(encoding="utf-8")
    for named in (text, compose):
        variables = set(re.findall(r"^ +(SYNC_\w+)[:=]", named, re.MULTILINE))
        assert variables
        assert variables <= set(Settings.VARIABLES.values())


def test_the_list_of_all_that_it_brings_has_each_requirement_and_what_was_pinned(dist: Path) -> None:
    pins = (SOURCES / "runtime.txt").read_text(encoding="utf-8")
    told = describe(FACTS, pins)
    brought = {part["name"]: part["version"] for part in told["components"]}
    assert len(brought) == len(told["components"]) == len(re.findall(r"^[\w.-]+==", pins, re.MULTILINE))
    needed = {re.split(r"[<>=!;\s\[]", one)[0] for one in metadata(dist).get_all("Requires-Dist", [])}
    assert needed <= brought.keys()
    assert all(part["properties"] for part in told["components"])
    assert told["metadata"]["component"]["version"] == __version__


def test_the_release_builds_and_tries_before_it_publishes_and_takes_actions_by_their_digest() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    order = [
        "tests.package.release",
        "make check test",
        "tests/package/run.sh",
        "tests.package.sbom",
        "pypa/gh-action-pypi-publish",
        "gh release create",
        'go run "$publisher" publish',
    ]
    places = [text.index(step) for step in order]
    assert places == sorted(places)
    assert "attestations: true" in text
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)] == []
    # Each right is given where it is needed, and no secret is.
    assert re.findall(r"^permissions:\n  contents: read\n", text, re.MULTILINE)
    assert "secrets." not in text
    assert "password" not in text
