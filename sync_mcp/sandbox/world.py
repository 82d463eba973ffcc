"""The state of one sandbox: its clock, jobs, assets, idempotency keys and what was recorded."""

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar
from uuid import NAMESPACE_URL, uuid5

from pydantic import JsonValue

from sync_mcp.sandbox.batch import Batch
from sync_mcp.sandbox.clock import Clock, Pulse, timestamp
from sync_mcp.sandbox.dialogue import DialogueEditJob, TranscriptionJob
from sync_mcp.sandbox.faults.records import Charge, Records
from sync_mcp.sandbox.faults.script import FaultBook
from sync_mcp.sandbox.jobs import Job
from sync_mcp.sandbox.media.fetch import Fetcher
from sync_mcp.sandbox.media.storage import Signer, Storage
from sync_mcp.sandbox.settings import SandboxSettings
from sync_mcp.sandbox.speech import SpeechJob

T = TypeVar("T")

_WORKERS = 4


@dataclass(slots=True)
class Asset:
    """A registered file."""

    id: str
    created_at: datetime
    updated_at: datetime
    url_path: str
    """Where in the storage it lies."""
    owner_key: str
    sha256: str | None
    """As it was told when the file was registered."""
    fields: dict[str, JsonValue]
    """What the API shows beside id, url and times."""

    def to_json(self, base_url: str) -> dict[str, JsonValue]:
        """Return the asset as the API shows it."""
        return {
            "id": self.id,
            "createdAt": timestamp(self.created_at),
            "updatedAt": timestamp(self.updated_at),
            "url": base_url + self.url_path,
            **self.fields,
        }


@dataclass(slots=True)
class Project:
    """A project of the organization."""

    id: str
    created_at: datetime
    updated_at: datetime
    fields: dict[str, JsonValue]
    """What the API shows beside id and times."""
    asset_ids: set[str] = field(default_factory=set[str])

    def to_json(self) -> dict[str, JsonValue]:
        """Return the project as the API shows it."""
        times = {"createdAt": timestamp(self.created_at), "updatedAt": timestamp(self.updated_at)}
        return {"id": self.id, **times, **self.fields}


@dataclass(frozen=True, slots=True)
class Clone:
    """A voice that was cloned from a recording."""

    id: str
    provider_id: str
    name: str
    created_at: datetime
    cost_usd: Decimal

    def to_json(self) -> dict[str, JsonValue]:
        """Return the voice as the API lists it."""
        known: dict[str, JsonValue] = {"id": self.id, "internalVoiceId": self.id, "voiceId": self.provider_id}
        return {**known, "name": self.name, "provider": "elevenlabs"}

    def charge(self, now: datetime) -> Charge:
        """Return what it costs."""
        del now
        return Charge(self.id, self.cost_usd, self.created_at, idempotency_key=None, released=False)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an idempotency key stands for."""

    body_hash: str
    answer: dict[str, JsonValue]
    until: datetime | None
    """When the key is forgotten; None for never."""


@dataclass(slots=True)
class Contents:
    """Everything that a reset throws away."""

    jobs: dict[str, Job] = field(default_factory=dict[str, Job])
    accepted: list[Job] = field(default_factory=list[Job])
    """Every job that was ever accepted, deleted ones too: what the charges are counted from."""
    speeches: dict[str, SpeechJob] = field(default_factory=dict[str, SpeechJob])
    """Every speech that was ever accepted."""
    untold: list[Job] = field(default_factory=list[Job])
    """Those with a webhook whose end is not told yet."""
    batches: dict[str, Batch] = field(default_factory=dict[str, Batch])
    assets: dict[str, Asset] = field(default_factory=dict[str, Asset])
    projects: dict[str, Project] = field(default_factory=dict[str, Project])
    deleted_projects: set[str] = field(default_factory=set[str])
    """Their ids, which no other project gets."""
    feedback: list[JsonValue] = field(default_factory=list[JsonValue])
    """What was told to Sync."""
    feedback_times: dict[str, list[datetime]] = field(default_factory=dict[str, list[datetime]])
    """When each API key told it."""
    clones: dict[str, Clone] = field(default_factory=dict[str, Clone])
    """The voices that were cloned, by their ids."""
    cloned: list[Clone] = field(default_factory=list[Clone])
    """Every one that was ever cloned, deleted ones too: what the charges are counted from."""
    transcriptions: dict[str, TranscriptionJob] = field(default_factory=dict[str, TranscriptionJob])
    dialogue_edits: dict[str, DialogueEditJob] = field(default_factory=dict[str, DialogueEditJob])
    keys: dict[str, Remembered] = field(default_factory=dict[str, Remembered])
    locks: dict[str, asyncio.Lock] = field(default_factory=dict[str, asyncio.Lock])
    creates: dict[str, list[datetime]] = field(default_factory=dict[str, list[datetime]])
    """When each API key sent its creates, for each limit of their rate."""
    key_names: dict[str, str] = field(default_factory=dict[str, str])
    skipping_readings: int = 0
    """How often the list was read while it skips entries."""
    made: dict[str, int] = field(default_factory=dict[str, int])
    """How many ids of each kind were given out."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits for its outputs any more."""

    @property
    def clone_names(self) -> frozenset[str]:
        """Every id by which a cloned voice is known."""
        return frozenset(id for clone in self.clones.values() for id in (clone.id, clone.provider_id))


class World:
    """All that a sandbox knows. The routes change it on the server's loop, the handle from other threads."""

    def __init__(self, settings: SandboxSettings, base_url: str, *, has_token: bool = False) -> None:
        self.initial_settings = settings
        self.settings = settings
        self.base_url = base_url
        self.has_token = has_token
        self.clock = Clock()
        self.pulse = Pulse()
        self.faults = FaultBook()
        self.records = Records()
        self.storage = Storage()
        self.fetcher = Fetcher()
        self.signer = Signer(self.clock, secrets.token_hex())
        self.contents = self._begin()
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="sync-sandbox-media")

    @property
    def project_id(self) -> str:
        """The project that the sandbox's organization has from the start."""
        return self._uuid("project", 1)

    @property
    def foreign_project_id(self) -> str:
        """A project of another organization's."""
        return self._uuid("project of others", 1)

    def new_id(self, kind: str) -> str:
        """Return the next id of a kind; the seed decides it."""
        count = self.contents.made.get(kind, 0) + 1
        self.contents.made[kind] = count
        return self._uuid(kind, count)

    def key_name(self, key: str) -> str:
        """Return the name of an API key: a number, in the order of their first jobs."""
        names = self.contents.key_names
        return names.setdefault(key, f"Sandbox key {len(names) + 1}")

    def list_jobs(self) -> list[Job]:
        """Return the jobs that the API knows, oldest first."""
        return [job for job in list(self.contents.jobs.values()) if not job.is_forgotten]

    def running_jobs(self) -> list[Job]:
        """Return the jobs that count against the plan's concurrency."""
        now = self.clock.now()
        return [job for job in self.list_jobs() if not job.has_ended(now) and not job.is_of_batch]

    def accept(self, job: Job) -> None:
        """Take a job in, and charge for it."""
        self.contents.jobs[job.id] = job
        self.contents.accepted.append(job)
        if job.asked.get("webhookUrl"):
            self.contents.untold.append(job)
            # Its end may be the next.
            self.pulse.beat()

    def charges(self) -> list[Charge]:
        """Return one charge for each job that was ever accepted, the oldest first."""
        now = self.clock.now()
        contents = self.contents
        paid = [
            *list(contents.accepted),
            *list(contents.speeches.values()),
            *list(contents.cloned),
            *list(contents.dialogue_edits.values()),
        ]
        return sorted([one.charge(now) for one in paid], key=lambda charge: charge.at)

    def recall(self, key: str) -> Remembered | None:
        """Return what an idempotency key stands for, unless it is forgotten by now."""
        found = self.contents.keys.get(key)
        if found is None or (found.until is not None and self.clock.now() >= found.until):
            return None
        return found

    def remember(self, key: str, body_hash: str, answer: dict[str, JsonValue]) -> None:
        """Keep the answer that an idempotency key stands for from now on."""
        expires = self.settings.idempotency == "expire"
        lasting = timedelta(seconds=self.settings.idempotency_expiry_seconds)
        until = self.clock.now() + lasting if expires else None
        self.contents.keys[key] = Remembered(body_hash, answer, until)

    def sign_url(self, path: str) -> str:
        """Return a whole signed URL for a path of the storage."""
        return f"{self.base_url}{path}?{self.signer.query(path, self.settings.output_url_seconds)}"

    async def in_worker(self, work: Callable[[], T]) -> T:
        """Run blocking work on media in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, work)

    async def pause(self, seconds: float) -> bool:
        """Wait in real time; return False if the sandbox was reset or stopped meanwhile."""
        contents = self.contents
        ends = time.monotonic() + seconds
        while self.contents is contents and not self.pulse.stopping:
            left = ends - time.monotonic()
            if left <= 0:
                return True
            await self.pulse.wait(left)
        return False

    def advance(self, seconds: float) -> None:
        """Move the clock and wake what waits for it."""
        self.clock.advance(seconds)
        self.pulse.beat()

    def configure(self, changes: dict[str, object]) -> None:
        """Change settings; jobs that were made already keep their length."""
        self.settings = self.settings.with_changes(changes)
        self.pulse.beat()

    def reset(self) -> None:
        """Go back to how the sandbox began."""
        self.contents.cancelled.set()
        self.settings = self.initial_settings
        self.faults.clear()
        self.records.clear()
        self.clock.reset()
        self.contents = self._begin()
        self.storage.clear()
        self.pulse.beat()

    def close(self) -> None:
        """Break off all work on media and remove every file."""
        self.contents.cancelled.set()
        self.fetcher.close()
        self._workers.shutdown(wait=True, cancel_futures=True)
        self.storage.remove()

    def _begin(self) -> Contents:
        now = self.clock.now()
        fields: dict[str, JsonValue] = {"name": "Sandbox", "visibility": "ORGANIZATION", "mode": "CREATOR"}
        return Contents(projects={self.project_id: Project(self.project_id, now, now, fields)})

    def _uuid(self, kind: str, count: int) -> str:
        return str(uuid5(NAMESPACE_URL, f"sync-sandbox/{self.settings.seed}/{kind}/{count}"))
