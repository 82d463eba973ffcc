"""The API's error codes, and how the sandbox words them (API §13, §16).

Codes and statuses are the API's; where it does not tell a status, the likeliest stands here. The sentences
are the sandbox's own.
"""

from collections.abc import Mapping
from typing import NamedTuple


class ApiError(NamedTuple):
    """An entry of the catalogue."""

    status: int
    message: str
    suggestion: str


_LATER = "Try again in a few minutes."
_BILLING = "Look at the organization's billing page."
_REACH = "Use a URL on this machine, an uploaded asset, or one of the sandbox's samples."

CATALOGUE: dict[str, ApiError] = {
    "generation_unsupported_model": ApiError(422, "This model cannot do that.", "Use sync-3 for an image."),
    "generation_pipeline_failed": ApiError(500, "The generation broke off while it was made.", _LATER),
    "generation_unknown_error": ApiError(500, "The generation failed for a reason nobody knows.", _LATER),
    "generation_input_validation_failed": ApiError(422, "The input is not valid.", "Mend the named field."),
    "generation_infra_storage_error": ApiError(503, "The storage did not answer.", _LATER),
    "generation_infra_resource_exhausted": ApiError(503, "All machines are busy.", _LATER),
    "generation_infra_service_unavailable": ApiError(503, "A service behind the API is down.", _LATER),
    "generation_input_video_inaccessible": ApiError(422, "The video URL could not be fetched.", _REACH),
    "generation_input_audio_inaccessible": ApiError(422, "The audio URL could not be fetched.", _REACH),
    "generation_input_image_inaccessible": ApiError(422, "The image URL could not be fetched.", _REACH),
    "generation_input_video_invalid": ApiError(
        422, "The video cannot be decoded.", "Convert it to H.264 in MP4."
    ),
    "generation_input_audio_invalid": ApiError(422, "The audio cannot be decoded.", "Convert it to WAV."),
    "generation_input_segments_invalid": ApiError(
        422,
        "The segments do not fit together.",
        "Give each a time of its own and a refId of an audio or text input.",
    ),
    "generation_input_trim_invalid": ApiError(
        422, "The audio cannot be cropped like that.", "Give startTime and endTime inside the audio."
    ),
    "generation_input_face_selection_invalid": ApiError(
        422, "No face can be selected like that.", "Give frame_number and coordinates inside the picture."
    ),
    "generation_input_resolution_unsupported": ApiError(
        422, "The picture is too large.", "Scale it to 4K or less."
    ),
    "generation_input_duration_greater_than_max_duration": ApiError(
        422, "The input is too long.", "Cut it into parts."
    ),
    "generation_model_duration_exceeded": ApiError(
        422, "The input is too long for this model.", "Cut it, or use another model."
    ),
    "generation_plan_duration_exceeded": ApiError(
        402, "The output would be longer than the plan allows.", "Cut the input, use cut_off, or upgrade."
    ),
    "dubbing_duration_exceeded": ApiError(422, "The video is too long to dub.", "Cut it into parts."),
    "free_tier_generations_exhausted": ApiError(
        402, "This month's free generations are used up.", "Upgrade, or wait for the next month."
    ),
    "plan_feature_unavailable": ApiError(402, "The plan does not include this.", "Upgrade the plan."),
    "account_payment_required": ApiError(402, "An invoice is unpaid.", _BILLING),
    "account_on_hold": ApiError(403, "The account is on hold.", _BILLING),
    "voice_clone_limit_reached": ApiError(
        403, "The plan has no more voice clones.", "Delete a voice or upgrade."
    ),
    "elevenlabs_quota_exceeded": ApiError(402, "The speech allowance is used up.", _BILLING),
    "generation_input_asset_type_mismatch": ApiError(
        422, "The asset is of another type than the input.", "Give the asset to an input of its own type."
    ),
    "generation_input_too_many_visual": ApiError(
        422, "There is more than one video or image.", "Send exactly one video or image."
    ),
    "generation_input_dub_audio_conflict": ApiError(
        422, "A dub takes the voice from its video.", "Leave out the audio and text inputs."
    ),
    "concurrency_limit_reached": ApiError(
        429, "Too many generations are running.", "Wait until one has ended, or upgrade."
    ),
    "rate_limit_exceeded": ApiError(
        429, "Too many requests in too short a time.", "Slow down and try again."
    ),
    "generation_not_deletable_while_processing": ApiError(
        409, "The generation has not ended.", "Wait until it has, then delete it."
    ),
    "invalid_generation_id": ApiError(
        400, "That is no generation id.", "Use the id that the create answered."
    ),
    "unsupported_generation_id_format": ApiError(
        400, "Ids of that form are not supported.", "Use the newer id."
    ),
    "generation_not_found": ApiError(404, "There is no such generation.", "Look into GET /v2/generations."),
    "generation_conflict": ApiError(
        409, "The generation is being changed by another request.", "Get it again."
    ),
    "generation_media_probe_timeout": ApiError(504, "The media took too long to inspect.", _LATER),
    "generation_media_probe_unavailable": ApiError(503, "The media cannot be inspected at present.", _LATER),
    "controller_timeout": ApiError(504, "The controller did not answer in time.", _LATER),
    "controller_unavailable": ApiError(503, "The controller is down.", _LATER),
    "controller_dependency_error": ApiError(502, "The controller lacks something it needs.", _LATER),
    "internal_error": ApiError(500, "The API broke down.", "Try again; quote the requestId if it stays."),
    "project_not_found": ApiError(422, "There is no such project.", "Use a project of your organization."),
    "asset_not_found": ApiError(404, "There is no such asset.", "Look into GET /v2/assets."),
    "asset_forbidden": ApiError(403, "The asset belongs to somebody else.", "Use an asset of your own."),
    "invalid_asset_id_format": ApiError(
        400, "That is no asset id.", "Use the id that POST /v2/assets answered."
    ),
    "uploaded_file_not_found": ApiError(
        422, "Nothing was uploaded there.", "PUT the file first, then register it."
    ),
    "file_not_in_org_storage": ApiError(
        422, "The file is not in your storage.", "Register a url that POST /v2/assets/upload answered."
    ),
    "file_size_exceeds_plan_limit": ApiError(
        422, "The file is larger than the plan allows.", "Make it smaller."
    ),
    "voice_not_found": ApiError(422, "There is no such voice.", "Look into GET /v2/voices."),
    "voice_sample_not_accessible": ApiError(422, "The voice sample could not be fetched.", _REACH),
    "voice_sample_type_unsupported": ApiError(
        422, "The voice sample is of the wrong kind.", "Use audio or video."
    ),
    "voice_sample_upload_required": ApiError(
        422, "The voice sample must be uploaded.", "Upload it as an asset."
    ),
    "voice_sample_extraction_failed": ApiError(
        422, "No sound came out of the voice sample.", "Use another file."
    ),
    "voice_sample_invalid": ApiError(422, "The voice sample cannot be decoded.", "Use another file."),
    "voice_sample_source_too_large": ApiError(413, "The voice sample is too large.", "Cut it."),
    "voice_sample_too_short": ApiError(400, "The voice sample is too short.", "Use half a minute or more."),
    "voice_name_conflict": ApiError(409, "A voice has that name already.", "Choose another name."),
    "voice_clone_busy": ApiError(429, "Another voice is being cloned.", "Wait until it is done."),
    "voice_verification_required": ApiError(
        422, "The voice must be verified before it is used.", "Verify it in the Studio."
    ),
    "voice_blocked": ApiError(422, "The voice is blocked.", "Use another voice."),
    "voice_access_denied": ApiError(400, "This account may not use the voice.", "Use another voice."),
    "elevenlabs_api_key_invalid": ApiError(
        503, "The speech provider refuses the API.", "Tell Sync's support."
    ),
    "elevenlabs_service_unavailable": ApiError(503, "The speech provider is down.", _LATER),
    "usage_dependency_unavailable": ApiError(503, "The usage figures are not to be had.", _LATER),
    "cost_estimate_unavailable": ApiError(
        422, "The cost cannot be told from this.", "Give model and duration to POST /v2/generations/estimate."
    ),
    "dialogue_edit_retime_required": ApiError(
        422, "The organization is not in the rollout of dialogue editing.", "Ask Sync's support for it."
    ),
    "dialogue_edit_unsupported": ApiError(
        422, "With an API key the whole source is edited.", "Leave startMs and endMs out."
    ),
    "dialogue_edit_not_found": ApiError(
        422, "There is no such dialogue edit with a preview.", "Use the id of one that has completed."
    ),
    "dialogue_edit_removal_too_large": ApiError(
        422, "So much cannot be removed at once.", "Remove fewer words."
    ),
    "dialogue_edit_source_mismatch": ApiError(
        422, "The transcript or the edit is of another source.", "Use the video that was transcribed."
    ),
    "dialogue_edit_audio_conflict": ApiError(
        422, "A dialogue edit brings its own sound.", "Send the original video alone."
    ),
    "INVALID_IDEMPOTENCY_KEY": ApiError(
        400, "The Idempotency-Key is not valid.", "Send one header of 1 to 128 letters, digits and . _ ~ -"
    ),
    "IDEMPOTENCY_KEY_REUSED": ApiError(
        409, "This Idempotency-Key came with another request before.", "Use a new key for a new generation."
    ),
    "IDEMPOTENCY_CONFLICT": ApiError(
        409, "This Idempotency-Key is taken.", "Look for the generation in GET /v2/generations."
    ),
    "IDEMPOTENCY_OUTCOME_UNKNOWN": ApiError(
        503,
        "Whether the generation was accepted is not known.",
        "Send the same request with the same key again.",
    ),
}

REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    413: "Payload Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Refusal(Exception):
    """An answer of the API that refuses a request: a status and the JSON body of API §1.7."""

    def __init__(
        self, status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = dict(body)
        self.headers = dict(headers or {})


def refusal(
    code: str,
    *,
    status: int | None = None,
    message: str | None = None,
    suggestion: str | None = None,
    field: str | None = None,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, object] | None = None,
) -> Refusal:
    """Return the refusal that belongs to an error code; `more` is added to its body."""
    entry = CATALOGUE[code]
    status = status or entry.status
    body: dict[str, object] = {
        "message": message or entry.message,
        "errorCode": code,
        "suggestion": suggestion or entry.suggestion,
        "statusCode": status,
        "error": REASONS[status],
    }
    if field:
        body["field"] = field
    return Refusal(status, {**body, **(more or {})}, headers)


def bare_refusal(status: int, message: str | list[str]) -> Refusal:
    """Return a refusal without an error code, as the API's framework writes it."""
    return Refusal(status, {"message": message, "error": REASONS[status], "statusCode": status})
