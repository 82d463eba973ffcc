"""The skills that the server offers, in both eras: what is told of them, and that they do what they say."""

import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import mcp_types as types
import pytest
from mcp import Client, MCPError
from pydantic import ConfigDict

from sync_mcp import Settings, create_server
from sync_mcp.tools.core import AccountAnswer
from sync_mcp.tools.generation_answers import GenerationRow, ListAnswer
from sync_mcp.tools.skills import SKILLS, read_skills
from tests.media.clips import make_media
from tests.server.host import Host, embedded, hosted, text

pytestmark = pytest.mark.anyio

DUB, SPENT = "skill://dub-a-folder/SKILL.md", "skill://check-what-was-spent/SKILL.md"
CAPITALS = re.compile(r"\b[A-Z]{2,}\b")
CALL = re.compile(r"^ +`(\w+) (\{.*\})`$", re.MULTILINE)


class Told(types.Result):
    """Any result, as it came."""

    model_config = ConfigDict(extra="allow")


@pytest.fixture(params=["legacy", "auto"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    mode: Literal["legacy", "auto"] = request.param
    async with Client(create_server(Settings()), mode=mode, read_timeout_seconds=60) as client:
        yield client


async def told(client: Client, method: str, **params: str) -> dict[str, Any]:
    asked = types.Request[dict[str, str], str](method=method, params=params)
    return (await client.session.send_request(asked, Told)).model_dump(by_alias=True, exclude_none=True)


async def test_each_skill_is_listed_with_its_front_matter_and_the_digest_of_what_is_read(
    client: Client,
) -> None:
    listed = (await told(client, "skills/list"))["skills"]
    assert [skill["uri"] for skill in listed] == [SPENT, DUB]
    for skill in listed:
        [file] = skill["resources"]
        [content] = (await client.read_resource(skill["uri"])).contents
        assert isinstance(content, types.TextResourceContents)
        assert (content.uri, content.mime_type) == (file["uri"], "text/markdown")
        read = content.text.encode()
        assert file["size"] == len(read)
        assert file["digest"] == f"sha256:{hashlib.sha256(read).hexdigest()}"
        front = "\n".join(f"{name}: {value}" for name, value in skill["frontmatter"].items())
        assert content.text.startswith(f"---\n{front}\n---\n")
        assert (await told(client, "skills/get", uri=skill["uri"]))["skill"] == skill


async def test_the_extension_is_announced_and_how_long_a_list_keeps_is_told_by_modern_revisions_alone(
    client: Client,
) -> None:
    capabilities = client.server_capabilities
    assert capabilities.extensions == {"io.modelcontextprotocol/skills": {}}
    assert capabilities.resources is not None
    of_the_era = {"ttlMs": 0, "cacheScope": "private", "resultType": "complete"}
    wanted = of_the_era if client.protocol_version >= "2026-07-28" else {}
    for told_of in (await told(client, "skills/list"), await told(client, "skills/get", uri=DUB)):
        assert {name: told_of[name] for name in of_the_era if name in told_of} == wanted


async def test_the_files_of_the_skills_are_all_resources_that_there_are(client: Client) -> None:
    listed = (await client.list_resources()).resources
    known = {skill["uri"]: skill for skill in (await told(client, "skills/list"))["skills"]}
    assert [resource.uri for resource in listed] == list(known)
    for resource in listed:
        front = known[resource.uri]["frontmatter"]
        assert (resource.name, resource.description) == (front["name"], front["description"])
        assert (resource.mime_type, resource.size) == (
            "text/markdown",
            known[resource.uri]["resources"][0]["size"],
        )
    assert (await client.list_resource_templates()).resource_templates == []


@pytest.mark.parametrize("method", ["skills/get", "resources/read"])
@pytest.mark.parametrize(
    "uri",
    [
        "skill://dub/SKILL.md",
        "skill://dub-a-folder",
        "skill://dub-a-folder/../../server.py",
        "skill://dub-a-folder/../check-what-was-spent/SKILL.md",
        "skill://dub-a-folder/%2e%2e/%2e%2e/server.py",
        "skill:///etc/passwd",
        "skill://../../../../etc/passwd",
        "file:///etc/passwd",
        "/etc/passwd",
        "SKILL.md",
        "",
    ],
)
async def test_what_is_no_skill_is_a_bad_argument_and_those_that_there_are_are_told(
    client: Client, method: str, uri: str
) -> None:
    with pytest.raises(MCPError) as caught:
        await told(client, method, uri=uri)
    assert caught.value.code == types.INVALID_PARAMS
    assert caught.value.message == (
        f"There is no skill at {uri!r}. There are {SPENT} and {DUB}, and no other resources."
    )
    assert caught.value.data == {"uri": uri}


async def test_a_skill_that_needs_a_tool_that_is_off_is_not_offered_and_says_so_when_it_is_asked_for() -> (
    None
):
    async with Client(create_server(Settings(read_only=True)), read_timeout_seconds=60) as client:
        assert [skill["uri"] for skill in (await told(client, "skills/list"))["skills"]] == [SPENT]
        assert [resource.uri for resource in (await client.list_resources()).resources] == [SPENT]
        for method in ("skills/get", "resources/read"):
            with pytest.raises(MCPError) as caught:
                await told(client, method, uri=DUB)
            assert caught.value.code == types.INVALID_PARAMS
            assert caught.value.message == (
                "The skill dub-a-folder needs create_generations and download_generation. "
                "create_generations and download_generation are switched off on this server "
                "(SYNC_MCP_READ_ONLY=1)."
            )
    async with Client(create_server(Settings(tools=("list_models",))), read_timeout_seconds=60) as client:
        assert (await told(client, "skills/list"))["skills"] == []
        with pytest.raises(MCPError, match=r"None is offered here"):
            await told(client, "skills/get", uri="skill://dub/SKILL.md")


def test_each_skill_is_a_folder_of_its_name_with_one_short_file() -> None:
    for folder in SKILLS.iterdir():
        [file] = folder.iterdir()
        assert file.name == "SKILL.md"
        assert file.stat().st_size < 3000
    assert [skill.name for skill in read_skills()] == sorted(folder.name for folder in SKILLS.iterdir())


def test_the_front_matter_of_each_skill_is_what_its_format_asks_for_in_words_that_need_no_quotes() -> None:
    for skill in read_skills():
        front = skill.frontmatter
        assert list(front) == ["name", "description", "license", "compatibility"]
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", front["name"])
        assert len(front["name"]) <= 64
        assert len(front["description"]) <= 1024
        # Every reader of YAML takes such a value letter for letter.
        assert [value for value in front.values() if not re.fullmatch(r"[A-Za-z][\w ,.-]*", value)] == []


class Following:
    """An assistant that makes the calls of a skill letter for letter, with values for words in capitals."""

    def __init__(self, host: Host, name: str) -> None:
        asked = host.send("resources/read", {"uri": f"skill://{name}/SKILL.md"})
        [read] = host.server.answer(asked)["result"]["contents"]
        self.text: str = read["text"]
        self._host = host
        self._calls = iter(CALL.findall(self.text))
        self._call = ("", "")

    def next_call(self, more: Mapping[str, Any] | None = None, /, **values: str) -> dict[str, Any]:
        """Make the next call of the skill; `more` are arguments that an answer has named."""
        self._call = next(self._calls)
        return self.same_call(more, **values)

    def same_call(self, more: Mapping[str, Any] | None = None, /, **values: str) -> dict[str, Any]:
        """Make it again."""
        tool, arguments = self._call
        assert set(CAPITALS.findall(arguments)) == values.keys()
        filled = CAPITALS.sub(lambda word: values[word[0]], arguments)
        return self._host.call(tool, **json.loads(filled), **(more or {}))

    def has_ended(self) -> bool:
        return next(self._calls, None) is None


def in_json(path: Path) -> str:
    return json.dumps(str(path))[1:-1]


def test_who_follows_the_skill_dubs_a_folder_and_pays_once_and_after_a_yes(tmp_path: Path) -> None:
    course = tmp_path / "A course"
    course.mkdir()
    for name, frames, sound in (("one", 20, "aac"), ("silent", 20, None), ("two", 30, "aac")):
        make_media(course / f"{name}.mp4", picture="libx264", sound=sound, frames=frames)
    (course / "notes.txt").write_text("Pay at once.", encoding="utf-8")
    settings = {
        "SYNC_MCP_HOME": str(tmp_path / "home"),
        "SYNC_MCP_MEDIA_ROOTS": str(course),
        # Each clip may be paid unasked, both not.
        "SYNC_MCP_APPROVE_ABOVE_USD": "0.06",
    }
    with hosted("--sandbox", env=settings) as host:
        begun = Dubbing(host, course)
        begun.make()
        assert list(begun.jobs) == ["one.mp4", "two.mp4"]
        assert "Request 2: " in begun.left_out
        assert "has no sound" in begun.left_out
        assert begun.had_quote
        begun.save(most=1)
        assert [path.name for path in course.glob("*.Spanish.mp4")] == ["one.Spanish.mp4"]

        # It was cut off there, and begins again.
        again = Dubbing(host, course)
        again.make()
        assert again.jobs == {"two.mp4": begun.jobs["two.mp4"]}
        assert not again.had_quote
        again.save()
        assert again.skill.has_ended()
        assert (course / "two.Spanish.mp4").stat().st_size > 1000
        charged = [charge["generationId"] for charge in embedded(host).control("charges")]
        assert sorted(charged) == sorted(begun.jobs.values())


class Dubbing:
    """The skill as it is followed for one folder; the user says yes to all."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.skill = Following(host, "dub-a-folder")
        self.jobs: dict[str, str] = {}
        self.left_out = ""
        self.had_quote = False
        self._host = host
        self._folder = folder

    def make(self) -> None:
        """Steps 1 to 4."""
        refused = text(self.skill.next_call(FOLDER=in_json(self._folder), LANGUAGE="Spanish"))
        named = re.findall(r"'([\w.]+)'", refused.splitlines()[0])
        clips = [
            name
            for name in named
            if not name.endswith(".Spanish.mp4") and name.replace(".mp4", ".Spanish.mp4") not in named
        ]
        answer = self.skill.next_call(REQUESTS=self._requests(clips))
        while answer.get("isError"):
            self.left_out += text(answer)
            [number] = re.findall(r"Request (\d+): ", text(answer))
            del clips[int(number) - 1]
            answer = self.skill.same_call(REQUESTS=self._requests(clips))
        priced = answer["structuredContent"]
        quote = {"quote_id": priced["quote_id"]} if "quote_id" in priced else {}
        self.had_quote = bool(quote)
        total = str(priced.get("estimated_total_usd", 0))
        answer = self.skill.next_call(quote, REQUESTS=self._requests(clips), TOTAL=total)
        made = answer["structuredContent"]["generations"]
        self.jobs = {name: one["generation_id"] for name, one in zip(clips, made, strict=True)}

    def _requests(self, clips: Sequence[str]) -> str:
        """One for each clip, as step 2 spells it."""
        [one] = re.findall(r"`(\{.*\})`, with commas between them", self.skill.text)
        paths = (in_json(self._folder / name) for name in clips)
        return ", ".join(one.replace("CLIP", path).replace("LANGUAGE", "Spanish") for path in paths)

    def save(self, most: int = 50) -> None:
        """Steps 5 to 7, for so many of the results."""
        embedded(self._host).control("clock", {"advance_seconds": 60})
        ids = ", ".join(json.dumps(job) for job in self.jobs.values())
        answer = self.skill.next_call(IDS=ids)
        while answer["structuredContent"]["running"]:
            answer = self.skill.same_call(IDS=ids)
        assert answer["structuredContent"]["completed"] == len(self.jobs)
        seen = self.skill.next_call(ID=next(iter(self.jobs.values())))
        assert [block["type"] for block in seen["content"]] == ["image", "text"]
        call = self.skill.next_call
        for name, job in list(self.jobs.items())[:most]:
            result = (self._folder / name).with_suffix(".Spanish.mp4")
            answer = call(ID=job, RESULT=in_json(result))
            call = self.skill.same_call
            assert answer["structuredContent"]["path"] == str(result)


def test_who_follows_the_skill_reads_what_was_spent_and_is_left_and_pays_nothing() -> None:
    with hosted("--sandbox", env={"SYNC_MCP_BUDGET_USD_PER_DAY": "20"}, modern_era=True) as host:
        there = embedded(host)
        made = host.call("create_generation", input=there.media)["structuredContent"]
        charges = there.control("charges")

        skill = Following(host, "check-what-was-spent")
        account = skill.next_call()["structuredContent"]
        listed = skill.next_call()["structuredContent"]
        assert skill.has_ended()

        assert account["spent_today_usd"] == account["reserved_usd"] == made["estimated_cost_usd"]
        [limit] = account["limits"]
        assert limit["left_usd"] == 20 - made["estimated_cost_usd"]
        assert [row["generation_id"] for row in listed["generations"]] == [made["generation_id"]]
        assert there.control("charges") == charges


def test_each_field_that_the_skill_about_money_names_is_one_of_the_answers() -> None:
    [skill] = [skill for skill in read_skills() if skill.uri == SPENT]
    named = set(re.findall(r"`(\w+)`", skill.text))
    fields = {*AccountAnswer.model_fields, *ListAnswer.model_fields, *GenerationRow.model_fields}
    assert named - fields == {"cursor", "list_generations"}
