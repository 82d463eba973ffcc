import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from sync_mcp.api.assets import Asset
from sync_mcp.api.catalogue import ModelInfo
from sync_mcp.api.models import (
    CamelModel,
    CostEstimate,
    Generation,
    GenerationCost,
    GenerationOptions,
    OtherInput,
    SnakeModel,
    Text,
    Video,
)

Wire = dict[str, Any]
Model = CamelModel | SnakeModel

JOB: Wire = {"id": "6533643b-aceb-4c40-967e-d9ba9baac39e", "status": "PROCESSING"}


@pytest.mark.parametrize("name", ["errorCode", "error_code"])
def test_an_error_code_is_read_in_both_spellings(name: str) -> None:
    assert Generation.from_wire({**JOB, name: "controller_error"}).error_code == "controller_error"
    other = ({"errorCode", "error_code"} - {name}).pop()
    for absent in ("", None):
        told = {**JOB, name: "controller_error", other: absent}
        assert Generation.from_wire(told).error_code == "controller_error"


def test_where_both_spellings_of_an_error_code_differ_neither_is_lost() -> None:
    generation = Generation.from_wire({**JOB, "errorCode": "new", "error_code": "old"})
    assert generation.error_code == "new"
    assert generation.to_wire() == {**JOB, "input": [], "errorCode": "new", "error_code": "old"}


@pytest.mark.parametrize("nothing", ["", None])
def test_empty_and_null_mean_absent(nothing: str | None) -> None:
    names = ("outputUrl", "webhookUrl", "outputDuration", "options", "segments", "createdAt", "error", "new")
    assert Generation.from_wire({**JOB, **dict.fromkeys(names, nothing)}) == Generation.from_wire(JOB)
    inner = {"options": {"sync_mode": nothing}, "input": [{"type": "video", "url": "u", "assetId": nothing}]}
    generation = Generation.from_wire({**JOB, **inner})
    assert generation.options == GenerationOptions()
    assert generation.input == [Video(url="u")]


@pytest.mark.parametrize("field", ["id", "status"])
@pytest.mark.parametrize("value", [None, "", 5, ["x"]])
def test_a_generation_without_an_id_or_a_status_is_an_error(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Generation.from_wire({**JOB, field: value})
    with pytest.raises(ValidationError):
        Generation.from_wire({name: given for name, given in JOB.items() if name != field})


@pytest.mark.parametrize("answer", [None, [], "x", 5, [JOB]])
def test_what_is_no_object_is_no_generation(answer: object) -> None:
    with pytest.raises(ValidationError):
        Generation.from_wire(answer)


def test_values_that_are_new_to_an_enumeration_pass_both_ways() -> None:
    told: Wire = {
        **JOB,
        "status": "THINKING",
        "model": "sync-9",
        "input": [{"type": "text", "provider": {"name": "newvoice", "voiceId": "v", "script": "s"}}],
        "options": {"sync_mode": "stretch", "model_mode": "torso", "prompt": "bored"},
    }
    generation = Generation.from_wire(told)
    assert generation.status == "THINKING"
    assert not generation.finished
    assert generation.to_wire() == told


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "REJECTED", "CANCELED"])
def test_a_job_in_a_terminal_status_is_finished(status: str) -> None:
    assert Generation.from_wire({**JOB, "status": status}).finished
    assert not Generation.from_wire(JOB).finished


def test_an_input_of_an_unknown_kind_is_kept_as_it_is() -> None:
    items = [{"type": "hologram", "beamWidth": 3, "url": "https://h/x"}, {"noType": True}]
    generation = Generation.from_wire({**JOB, "input": items})
    assert [type(item) for item in generation.input] == [OtherInput, OtherInput]
    assert generation.input[0].type == "hologram"
    assert generation.to_wire()["input"] == items


@pytest.mark.parametrize(
    "item",
    [
        {"type": "text", "provider": {"name": "elevenlabs"}},
        {"type": "text", "provider": {"name": "elevenlabs", "voiceId": "v", "speed": 1.5, "tags": [None]}},
        {"type": "text", "provider": "elevenlabs:v"},
        {"type": "text", "provider": {"name": "elevenlabs", "script": "s"}, "refId": "r", "lang": "en"},
    ],
)
def test_a_script_that_the_api_shows_in_part_is_neither_lost_nor_made_up(item: Wire) -> None:
    generation = Generation.from_wire({**JOB, "input": [item]})
    assert isinstance(generation.input[0], Text)
    wire = generation.to_wire()["input"][0]
    assert {"provider": item["provider"]} == {"provider": wire.pop("provider")} or wire == item
    assert wire.items() >= {name: value for name, value in item.items() if name != "provider"}.items()


def test_what_the_provider_of_a_voice_adds_can_be_sent() -> None:
    text = Text(script="s", voice_id="v", provider_name="new", provider_extra={"speed": 2})
    assert text.to_wire()["provider"] == {"name": "new", "voiceId": "v", "script": "s", "speed": 2}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("createdAt", "yesterday"),
        ("outputDuration", "long"),
        ("outputDuration", [1]),
        ("input", "a video"),
        ("input", [{"type": "video", "url": "u"}, "an audio"]),
        ("input", [{"type": "text", "provider": {"stability": "high"}}]),
        ("options", {"temperature": "hot", "sync_mode": "loop"}),
        ("options", {"active_speaker_detection": True}),
        ("segments", [{"startTime": 0}]),
        ("error", {"code": 5}),
        ("errorCode", 5),
        ("error_code", 5),
        ("progress_percent", "half"),
        ("webhookUrl", False),
    ],
)
def test_an_optional_field_that_cannot_be_read_is_kept_as_it_came(
    field: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    generation = Generation.from_wire({**JOB, "outputUrl": "https://h/o?s=1", field: value})
    assert (generation.id, generation.output_url) == (JOB["id"], "https://h/o?s=1")
    assert generation.to_wire()[field] == value
    assert field in caplog.text
    for name in (
        "created_at",
        "output_duration",
        "options",
        "segments",
        "error",
        "error_code",
        "webhook_url",
    ):
        assert vars(generation)[name] is None


def test_a_field_that_cannot_be_read_in_either_spelling_is_kept_in_both() -> None:
    told = {**JOB, "input": [], "errorCode": 5, "error_code": [6]}
    generation = Generation.from_wire(told)
    assert generation.error_code is None
    assert generation.to_wire() == told


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_figure_that_is_no_number_is_not_passed_on_as_one(number: float) -> None:
    generation = Generation.from_wire({**JOB, "outputDuration": number, "progress_percent": number})
    assert (generation.output_duration, generation.progress_percent) == (None, None)
    names = ("estimatedGenerationCost", "estimatedFrameCount", "estimatedCredits")
    estimate = CostEstimate.from_wire(dict.fromkeys(names, number))
    assert estimate.estimated_generation_cost is None
    assert (estimate.estimated_frame_count, estimate.estimated_credits) == (None, None)


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ("2026-10-02T09:30:00", datetime(2026, 10, 2, 9, 30, tzinfo=UTC)),
        ("2026-10-02T09:30:00.000Z", datetime(2026, 10, 2, 9, 30, tzinfo=UTC)),
        ("2026-10-02T11:30:00+02:00", datetime(2026, 10, 2, 9, 30, tzinfo=UTC)),
    ],
)
def test_a_time_without_a_zone_is_in_utc(told: str, read: datetime) -> None:
    created_at = Generation.from_wire({**JOB, "createdAt": told}).created_at
    assert created_at == read
    assert ModelInfo.from_wire({"name": "m", "deprecatedAt": told}).deprecated_at == read
    assert Generation(id="g", status="s", created_at=datetime.fromisoformat(told)).created_at == read


@pytest.mark.parametrize("told", [0.1, 0.226, 1.335, 5, "0.1", 1e-7, 123456.78])
def test_money_is_exact_to_the_last_digit_that_the_api_tells(told: float | str) -> None:
    estimate = CostEstimate.from_wire({"estimatedGenerationCost": told})
    assert estimate.estimated_generation_cost == Decimal(str(told))
    cost = GenerationCost.from_wire({"totalCostUsd": told, "knownSubtotalUsd": str(told)})
    assert cost.total_cost_usd == cost.known_subtotal_usd == Decimal(str(told))


def test_a_sum_of_prices_carries_no_noise() -> None:
    prices = [CostEstimate.from_wire({"estimatedGenerationCost": 0.1}) for _ in range(3)]
    assert sum(price.estimated_generation_cost or 0 for price in prices) == Decimal("0.3")


def test_reading_an_answer_leaves_it_as_it_was() -> None:
    told: Mapping[str, object] = {**JOB, "input": [{"type": "text", "provider": {"voiceId": "v", "x": ""}}]}
    before = json.dumps(told)
    Generation.from_wire(told)
    assert json.dumps(told) == before


NO_AMOUNT = [
    1e30,
    "1E+400",
    "1e30",
    1_000_001,
    10**400,
    "1" * 5000,
    "NaN",
    "Infinity",
    float("nan"),
    float("inf"),
    -0.01,
    "-1",
    True,
]


@pytest.mark.parametrize("told", NO_AMOUNT, ids=lambda told: str(told)[:12])
def test_what_no_job_can_cost_is_an_unknown_price_and_an_unknown_cost_and_is_kept_as_it_came(
    told: object,
) -> None:
    estimate = CostEstimate.from_wire({"estimatedGenerationCost": told, "estimatedFrameCount": 100})
    assert (estimate.estimated_generation_cost, estimate.estimated_frame_count) == (None, 100)
    cost = GenerationCost.from_wire(
        {"generationId": "g", "availability": "complete", "totalCostUsd": told, "knownSubtotalUsd": told}
    )
    assert (cost.total_cost_usd, cost.known_subtotal_usd) == (None, None)
    # Unknown, and not 0: nobody may take it for a job that was free.
    assert (cost.final_usd, cost.charged) == (None, "unknown")
    assert (cost.model_extra or {})["totalCostUsd"] is told


def test_a_million_dollars_is_still_an_amount() -> None:
    assert CostEstimate.from_wire({"estimatedGenerationCost": 1e6}).estimated_generation_cost == 1_000_000


@pytest.mark.parametrize("told", [1e30, "1E+400", -1, True, 10**400])
def test_a_count_or_a_length_that_nothing_has_is_not_known(told: object) -> None:
    names = ("estimatedFrameCount", "estimatedCredits")
    estimate = CostEstimate.from_wire({"estimatedGenerationCost": 0.2} | dict.fromkeys(names, told))
    assert (estimate.estimated_frame_count, estimate.estimated_credits) == (None, None)
    assert estimate.estimated_generation_cost == Decimal("0.2")
    generation = Generation.from_wire({**JOB, "outputDuration": told, "progress_percent": told})
    assert (generation.output_duration, generation.progress_percent) == (None, None)
    assert Asset.from_wire({"id": "a", "durationSeconds": told}).duration_seconds is None


def test_a_cost_names_its_job_and_how_that_ended() -> None:
    cost = GenerationCost.from_wire({"generationId": "g-1", "generationStatus": "COMPLETED"})
    assert (cost.generation_id, cost.generation_status) == ("g-1", "COMPLETED")
