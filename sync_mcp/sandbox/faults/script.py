"""Faults by script: how a test or a developer tells the sandbox to fail.

A `Fault` is a rule. It says which requests it strikes (`method`, `path`, `key`, `skip`, `times`), what they
get instead of their answer, and when: `before` the request is processed (it never reaches the API) or
`after` (the API has accepted it, and only the answer goes wrong). A rule is made by `Sandbox.add_fault` or by
`POST /sandbox/faults`; the header `X-Sandbox-Fault: <the same JSON>` makes one for its own request alone.
Of several rules that fit, the oldest strikes; a header goes before all rules.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from sync_mcp.sandbox.api.catalogue import CATALOGUE, refusal
from sync_mcp.sandbox.settings import CostAtFirst

Moment = Literal["before", "after"]
CREATE_PATH = "/v2/generate"
SPEECH_PATH = "/v2/tts/jobs"
EDIT_PATH = "/v2/dialogue-edits"
BATCH_PATH = "/v2/batch"
_MAKE_JOBS = (("POST", CREATE_PATH), ("POST", SPEECH_PATH), ("POST", EDIT_PATH), ("POST", BATCH_PATH))


class Fault(BaseModel):
    """One way to fail, and the requests that it strikes.

    Everything but `delay_seconds`, `headers` and what becomes of the job (`job` and the fields below it)
    takes the place of the answer, and at most one such thing can be chosen (`cut_body` and `headers` also go
    with `status` and `body`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    method: str | None = None
    """Strike this method only."""
    path: str = "*"
    """Strike paths that match this glob, such as `/v2/generate/*`."""
    key: str | None = None
    """Strike only requests that come with this API key: what one account is told, and another is not."""
    times: int | None = Field(default=1, ge=1)
    """Strike so many requests; null for every one."""
    skip: int = Field(default=0, ge=0)
    """Let so many requests pass first."""
    when: Moment | None = None
    """Before or after the request is processed; by default before for `status` and `html`, else after."""

    status: int | None = Field(default=None, ge=200, le=599)
    """Answer with this status ..."""
    body: JsonValue = None
    """... and this body: JSON, or a string that is sent as plain text."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Headers to add to the answer, whatever it is."""
    delay_seconds: float = Field(default=0.0, ge=0)
    """Be late by so much real time: before processing, or with the answer."""
    drop: Moment | None = None
    """Close the connection without an answer, before or after processing."""
    cut_body: bool = False
    """Announce the whole answer, send half of it, and close the connection."""
    html: bool = False
    """Answer 502 with a page of HTML, as a gateway does."""
    empty: bool = False
    """Answer with the right status and nothing else."""
    no_id: bool = False
    """Answer with JSON that lacks the id."""
    idempotency_outcome_unknown: Literal["with_id", "without_id"] | None = None
    """Answer 503 IDEMPOTENCY_OUTCOME_UNKNOWN, which may name the generation."""

    job: Literal["fail", "reject", "stuck", "forget", "hide"] | None = None
    """What becomes of the job that a create makes: it fails, is rejected, never ends, is not found when it is
    asked for, or is left out of lists. Strikes creates alone, as all that follows does; of a dialogue edit
    what it ends with and whether it is charged, of a batch the jobs of its rows; what hides and forgets
    strikes the batch itself too."""
    rows: tuple[int, ...] = ()
    """Of a batch, the rows that it strikes, counted from 1; by default every one."""
    end_status: str | None = Field(default=None, min_length=1)
    """The word that the job ends with, such as CANCELLED or TIMED_OUT; it has an output where that word means
    completed, in whatever case."""
    error_code: str | None = None
    """The code of a job that does not complete."""
    error: str | None = None
    """The sentence of a job that does not complete."""
    charged: bool = False
    """Charge for a job that does not complete."""
    get_lag_seconds: float | None = Field(default=None, ge=0)
    """For this job in place of the setting of that name."""
    list_lag_seconds: float | None = Field(default=None, ge=0)
    """For this job in place of the setting of that name."""
    cost_seconds: float | None = Field(default=None, ge=0)
    """For this job in place of the setting of that name."""
    cost_at_first: CostAtFirst | None = None
    """For this job in place of the setting of that name."""
    webhook: Literal["twice", "never", "wrongly_signed", "stale"] | None = None
    """How the end of this job is told to its webhook: twice, not at all, signed by another secret, or signed
    an hour ago."""
    webhook_seconds: float | None = Field(default=None, ge=0)
    """How long after its end this job's webhook comes, on the sandbox's clock: out of order with those of
    others."""

    @classmethod
    def api_error(
        cls,
        code: str,
        *,
        method: str | None = None,
        path: str = "*",
        times: int | None = 1,
        skip: int = 0,
        when: Moment | None = None,
        headers: Mapping[str, str] | None = None,
        **more: JsonValue,
    ) -> Self:
        """Return the fault that refuses as the API does for an error code; `more` is added to the body.

        Raises:
            KeyError: the code is not in the catalogue (`GET /v2/errors`).
        """
        if code == "concurrency_limit_reached":
            more = {
                "activeGenerations": 3,
                "concurrencyLimit": 3,
                "retryAfterSeconds": 30,
                "upgradeUrl": "https://sync.so/billing",
            } | more
        if code == "internal_error":
            more = {"requestId": "req_sandbox"} | more
        body = cast(dict[str, JsonValue], refusal(code).body) | more
        return cls(
            method=method,
            path=path,
            times=times,
            skip=skip,
            when=when,
            status=CATALOGUE[code].status,
            body=body,
            headers=dict(headers or {}),
        )

    @model_validator(mode="after")
    def _is_one_fault(self) -> Self:
        answers = [name for name in _ANSWERS if getattr(self, name)]
        if len(answers) > 1:
            raise ValueError(f"choose one of {', '.join(answers)}")
        if self.body is not None and self.status is None:
            raise ValueError("body needs a status")
        if self.drop and self.when:
            raise ValueError("drop says itself whether it strikes before or after; leave when out")
        if self.drop and self.cut_body:
            raise ValueError("choose one of drop, cut_body")
        if not (answers or self.cut_body or self.headers or self.delay_seconds or self.is_fate):
            raise ValueError("it does nothing: give an answer, a delay or a fate of the job")
        if self.end_status and self.job in _ENDINGS:
            raise ValueError(f"choose one of end_status, job {self.job}")
        if self.rows and not self.is_fate:
            raise ValueError("rows says of which jobs of a batch a fate is: give one")
        if self.moment == "before" and self._needs_processing:
            raise ValueError(
                "a fate of the job, or a generation's id, needs the request to be processed: use after"
            )
        return self

    @property
    def moment(self) -> Moment:
        """Whether it strikes before or after the request is processed."""
        early = self.status is not None or self.html
        return self.drop or self.when or ("before" if early and not self.is_fate else "after")

    @property
    def is_fate(self) -> bool:
        """Whether it says what becomes of the job that a create makes."""
        return any(getattr(self, name) is not None for name in _FATES)

    @property
    def processes(self) -> bool:
        """Whether the API gets to see the request at all."""
        return self.moment == "after" or not self.replaces_answer

    @property
    def replaces_answer(self) -> bool:
        """Whether the request gets another answer than its own."""
        return self.cut_body or any(getattr(self, name) for name in _ANSWERS)

    def strikes(self, method: str, path: str, key: str) -> bool:
        """Return whether the rule is about such a request."""
        if self.is_fate and (method, path) not in _MAKE_JOBS:
            return False
        if self.key not in (None, key):
            return False
        return self.method in (None, method) and fnmatchcase(path, self.path)

    @property
    def _needs_processing(self) -> bool:
        return self.replaces_answer and (self.is_fate or self.idempotency_outcome_unknown == "with_id")


_ANSWERS = ("status", "drop", "html", "empty", "no_id", "idempotency_outcome_unknown")
_ENDINGS = ("fail", "reject", "stuck")
_FATES = (
    "job",
    "end_status",
    "get_lag_seconds",
    "list_lag_seconds",
    "cost_seconds",
    "cost_at_first",
    "webhook",
    "webhook_seconds",
)


@dataclass(slots=True)
class _Rule:
    fault: Fault
    passed: int = 0
    struck: int = 0

    @property
    def is_spent(self) -> bool:
        return self.fault.times is not None and self.struck >= self.fault.times


class FaultBook:
    """The rules in force, oldest first; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: dict[str, _Rule] = {}
        self._made = 0

    def add(self, fault: Fault) -> str:
        """Put a rule in force and return its id."""
        with self._lock:
            self._made += 1
            rule_id = f"fault-{self._made}"
            self._rules[rule_id] = _Rule(fault)
            return rule_id

    def take(self, method: str, path: str, key: str) -> tuple[str, Fault] | None:
        """Return the rule that strikes this request and count it."""
        with self._lock:
            for rule_id, rule in self._rules.items():
                if rule.is_spent or not rule.fault.strikes(method, path, key):
                    continue
                if rule.passed < rule.fault.skip:
                    rule.passed += 1
                    continue
                rule.struck += 1
                return rule_id, rule.fault
        return None

    def clear(self) -> None:
        """Take every rule out of force."""
        with self._lock:
            self._rules.clear()

    def remove(self, rule_id: str) -> bool:
        """Take one rule out of force; return whether there was one."""
        with self._lock:
            return self._rules.pop(rule_id, None) is not None

    def listing(self) -> list[dict[str, object]]:
        """Return each rule with its id and how often it has struck."""
        with self._lock:
            return [
                {
                    "id": rule_id,
                    "struck": rule.struck,
                    "fault": rule.fault.model_dump(mode="json", exclude_defaults=True),
                }
                for rule_id, rule in self._rules.items()
            ]
