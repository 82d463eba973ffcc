"""What the generation tools answer: the shapes."""

from pydantic import BaseModel
from pydantic.json_schema import SkipJsonSchema

from sync_mcp.tools.answers import Answer

SPEECH = "speech"
DIALOGUE_EDIT = "dialogue edit"
TRANSCRIPTION = "transcription"
BATCH = "batch"
"""What jobs are called that are no generations."""


class GenerationAnswer(Answer):
    generation_id: str
    status: str
    about: str | None = None
    model: str | None = None
    created_at: str | None = None
    progress_percent: float | None = None
    saved_as: str | None = None
    output_url: str | None = None
    output_url_expires_at: str | None = None
    output_duration_seconds: float | None = None
    api_code: str | None = None
    api_says: str | None = None
    remedy: str | None = None
    charged: str | None = None
    cost_usd: float | None = None
    estimated_cost_usd: float | None = None
    reused: bool | None = None
    note: str | None = None


class OneMade(BaseModel):
    request: int
    """Its number among the requests, from 1."""
    about: str
    generation_id: str | None = None
    status: str
    """Of its job; without one what became of the request, in capitals too."""
    estimated_cost_usd: float | None = None
    reused: bool | None = None
    error_code: str | None = None
    api_code: str | None = None
    why: str | None = None
    api_says: str | None = None


class SeveralAnswer(Answer):
    made: int
    reused: int | None = None
    unknown: int | None = None
    not_made: int | None = None
    estimated_total_usd: float | None = None
    """Of what was made by this call; of a dry run what would be."""
    would_be_refused: str | None = None
    asks: str | None = None
    quote_id: str | None = None
    generations: list[OneMade]
    note: str | None = None


class GenerationRow(BaseModel):
    generation_id: str
    status: str
    about: str | None = None
    model: str | None = None
    created_at: str | None = None
    output_file_name: str | None = None
    api_code: str | None = None
    cost_usd: float | None = None
    estimated_cost_usd: float | None = None
    saved_as: str | None = None


class ListAnswer(Answer):
    unresolved: list[str] | None = None
    generations: list[GenerationRow]
    next_cursor: str | None = None
    note: str | None = None


class AwaitedRow(BaseModel):
    generation_id: str
    kind: SkipJsonSchema[str | None] = None
    """What it is where it is no generation; the schema stays as it is for those who wait for these alone."""
    status: str
    about: str | None = None
    progress_percent: float | None = None
    output_url: str | None = None
    error_code: str | None = None
    api_code: str | None = None
    charged: str | None = None
    cost_usd: float | None = None
    estimated_cost_usd: float | None = None
    saved_as: str | None = None


class WaitAnswer(Answer):
    completed: int
    failed: int
    running: int
    unknown: int | None = None
    total_cost_usd: float | None = None
    """Of all the jobs, where the cost of each is known."""
    estimated_total_usd: float | None = None
    """Of all the jobs, with estimates where a cost is not known yet; None where one has no figure at all."""
    generations: list[AwaitedRow]


class EstimateAnswer(Answer):
    model: str
    model_note: str | None = None
    cost_usd: float | None = None
    hint_usd: float | None = None
    frames: int | None = None
    credits: float | None = None
    would_be_refused: str | None = None
    would_fit: str | None = None
    asks: str | None = None
    quote_id: str | None = None
    assumptions: list[str]
