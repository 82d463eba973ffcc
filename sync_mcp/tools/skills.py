"""The skills that the server offers: whole jobs, told step by step in the calls that do them.

They are plain files, `sync_mcp/skills/NAME/SKILL.md`, and lie there as in a folder of an assistant's own.
They are served by the extension `io.modelcontextprotocol/skills` (SEP-2640), as its specification says:
https://github.com/modelcontextprotocol/ext-skills/blob/main/specification/stable/skills.mdx
`skills/list` and `skills/get` tell of each its front matter, and the size and the SHA-256 of its file, which
`resources/read` gives. No request carries a digest: it is the host that compares.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mcp_types as types
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from sync_mcp.texts import safe
from sync_mcp.tools.withheld import Off, names_any, say_what_is_lacking

SKILLS = Path(__file__).parents[1] / "skills"
FILE_NAME = "SKILL.md"
MARKDOWN = "text/markdown"
_FENCE = "---"
_URI_SHOWN = 200


class SkillFile(BaseModel):
    """A file of a skill, by the bytes that it has: `digest` is `sha256:` and 64 hexadecimal digits."""

    uri: str
    digest: str
    size: int


class SkillEntry(BaseModel):
    """What is told of a skill: its front matter, field for field, and all its files."""

    uri: str
    frontmatter: Mapping[str, str]
    resources: Sequence[SkillFile]


class ListSkillsResult(types.CacheableResult):
    """What `skills/list` answers."""

    skills: Sequence[SkillEntry]


class GetSkillResult(types.CacheableResult):
    """What `skills/get` answers."""

    skill: SkillEntry


@dataclass(frozen=True, slots=True)
class Skill:
    """A skill as its file has it; it is not offered where a tool that it names is off."""

    content: bytes

    @property
    def text(self) -> str:
        """The file, letter for letter."""
        return self.content.decode()

    @property
    def frontmatter(self) -> Mapping[str, str]:
        """What stands above the text, a field a line; each value is one that YAML reads letter for letter."""
        lines = self.text.splitlines()
        fields = (line.partition(": ") for line in lines[1 : lines.index(_FENCE, 1)])
        return {name: value for name, _, value in fields}

    @property
    def name(self) -> str:
        """Its name, which is that of its folder too."""
        return self.frontmatter["name"]

    @property
    def uri(self) -> str:
        """Where it is read."""
        return f"skill://{self.name}/{FILE_NAME}"

    @property
    def entry(self) -> SkillEntry:
        """What is told of it."""
        digest = f"sha256:{hashlib.sha256(self.content).hexdigest()}"
        file = SkillFile(uri=self.uri, digest=digest, size=len(self.content))
        return SkillEntry(uri=self.uri, frontmatter=self.frontmatter, resources=[file])

    @property
    def listing(self) -> types.Resource:
        """What `resources/list` says of its file."""
        return types.Resource(
            uri=self.uri,
            name=self.name,
            description=self.frontmatter["description"],
            mime_type=MARKDOWN,
            size=len(self.content),
        )


def read_skills() -> Sequence[Skill]:
    """Return all skills of the package, by name."""
    return [Skill(path.read_bytes()) for path in sorted(SKILLS.glob(f"*/{FILE_NAME}"))]


def list_skills(withheld: Mapping[str, Off]) -> ListSkillsResult:
    """Return what is told of the skills that name no tool that is off."""
    return ListSkillsResult(skills=[skill.entry for skill in _select(withheld).values()])


def get_skill(uri: str, withheld: Mapping[str, Off]) -> GetSkillResult:
    """Return what is told of one skill.

    Raises:
        MCPError: no skill is offered at `uri`.
    """
    return GetSkillResult(skill=_find(uri, withheld).entry)


def list_resources(withheld: Mapping[str, Off]) -> types.ListResourcesResult:
    """Return the files of the skills, which are all resources that there are."""
    return types.ListResourcesResult(resources=[skill.listing for skill in _select(withheld).values()])


def read_resource(uri: str, withheld: Mapping[str, Off]) -> types.ReadResourceResult:
    """Return the file of a skill.

    Raises:
        MCPError: no skill is offered at `uri`.
    """
    skill = _find(uri, withheld)
    content = types.TextResourceContents(uri=skill.uri, mime_type=MARKDOWN, text=skill.text)
    return types.ReadResourceResult(contents=[content])


def _select(withheld: Mapping[str, Off]) -> Mapping[str, Skill]:
    return {skill.uri: skill for skill in read_skills() if not names_any(withheld, skill.text)}


def _find(uri: str, withheld: Mapping[str, Off]) -> Skill:
    """Return the skill at `uri`, which is compared with those that there are, and never becomes a path."""
    offered = _select(withheld)
    if uri in offered:
        return offered[uri]
    for skill in read_skills():
        if skill.uri == uri:
            raise _invalid(say_what_is_lacking(f"The skill {skill.name}", skill.text, withheld), uri)
    there = f"There are {' and '.join(offered)}" if offered else "None is offered here"
    told = f"There is no skill at {safe(uri, _URI_SHOWN)!r}."
    raise _invalid(f"{told} {there}, and no other resources.", uri)


def _invalid(message: str, uri: str) -> MCPError:
    return MCPError(code=types.INVALID_PARAMS, message=message, data={"uri": safe(uri, _URI_SHOWN)})
