"""What can be done about an error, for an assistant: a tool to call, a setting, or whom to ask.

The words are ours alone. What the API advises stands beside them, as what the API says.
"""

import re
from collections.abc import Mapping

from sync_mcp.errors import APIStatusError, Code, LimitReached, SyncError
from sync_mcp.tools.limit_words import limit_next_step

_BILLING = "https://sync.so/billing"
_DOWN = (
    "A service of Sync's is down (https://status.sync.so): tell the user, and make the same call again later."
)
_SLOW = "Sync was too slow this time: make the same call again in a while; if it stays so, tell the user."
_UNKNOWN = "Call create_generation again once; if it fails again, the user can ask Sync's support."
_STORAGE = "Sync's storage fails at present: make the same call again later; if it stays so, tell the user."
_BUSY = "Call wait_for_generations for a job that runs, then make the same call again."
_SAMPLE = "Call clone_voice with another recording"

API_REMEDIES: Mapping[str, str] = {
    "generation_unsupported_model": (
        "Take a model that can do it: list_models says what each takes, and an image needs sync-3."
    ),
    "generation_pipeline_failed": (
        "Call create_generation again once; if it fails again, ask the user for another clip."
    ),
    "generation_unknown_error": _UNKNOWN,
    "generation_unhandled_error": _UNKNOWN,
    "generation_input_validation_failed": (
        "Correct what the API names, and call create_generation again; estimate_cost checks it for free."
    ),
    "generation_infra_storage_error": _STORAGE,
    "generation_database_error": _STORAGE,
    "generation_infra_resource_exhausted": (
        "All of Sync's machines are busy: wait some minutes, then call create_generation again."
    ),
    "generation_infra_service_unavailable": _DOWN,
    "generation_input_video_inaccessible": (
        "Give the video as path, a file on the user's disk, or a URL that opens for everybody; upload_asset "
        "copies one."
    ),
    "generation_input_audio_inaccessible": (
        "Give the audio as path, a file on the user's disk, or a URL that opens for everybody; upload_asset "
        "copies one."
    ),
    "generation_input_image_inaccessible": (
        "Give the image as path, a file on the user's disk, or a URL that opens for everybody; upload_asset "
        "copies one."
    ),
    "generation_input_video_invalid": (
        "Ask the user for the video as MP4 with H.264, for a dub one with speech, and call create_generation "
        "with that."
    ),
    "generation_input_audio_invalid": (
        "Ask the user for the audio as WAV or MP3, and call create_generation with that."
    ),
    "generation_input_segments_invalid": (
        "Correct segments (in order, none over another, each with the ref_id of an audio or text item), and "
        "call create_generation again."
    ),
    "generation_input_trim_invalid": (
        "Correct start_time and end_time of audio_input in segments, which lie within the audio, and call "
        "create_generation again."
    ),
    "generation_input_face_selection_invalid": (
        "Correct active_speaker_detection (coordinates within the picture, a frame_number of the clip), and "
        "call create_generation again."
    ),
    "generation_input_resolution_unsupported": (
        "Ask the user for the clip in another size: from 480p to 4096 by 2160."
    ),
    "generation_input_duration_greater_than_max_duration": (
        "Ask the user which part to use: the input is longer than any model takes."
    ),
    "generation_model_duration_exceeded": (
        "Give a shorter clip, or take another model: list_models tells their limits."
    ),
    "generation_plan_duration_exceeded": (
        "Give a shorter clip, or sync_mode cut_off; longer ones need a higher plan, which the user chooses: "
        "get_account tells the present one."
    ),
    "dubbing_duration_exceeded": "Ask the user which part of the video to dub: it is too long for one dub.",
    "free_tier_generations_exhausted": (
        "Tell the user: the free generations of this month are used up; they wait for the next month or take "
        f"a plan at {_BILLING}."
    ),
    "plan_feature_unavailable": (
        "Tell the user: their plan does not have this; get_account tells the plan, and list_models what goes "
        "without it."
    ),
    "account_payment_required": f"Tell the user: an invoice is unpaid, or there is no plan ({_BILLING}).",
    "account_on_hold": "Tell the user: Sync holds the account, and only Sync's support can say why.",
    "voice_clone_limit_reached": (
        "Tell the user: the plan has no more voice clones. They choose one that delete_voice deletes, or a "
        "higher plan."
    ),
    "elevenlabs_quota_exceeded": (
        "Tell the user: the allowance for speech is used up. An audio item instead of a script still works "
        "in create_generation."
    ),
    "generation_input_asset_type_mismatch": (
        "Give the asset to an item of its own type: upload_asset told which it is."
    ),
    "generation_input_too_many_visual": "Call create_generation with exactly one video or image in input.",
    "generation_input_dub_audio_conflict": (
        "Call create_generation with the video alone: a dub takes the voice of its video."
    ),
    "concurrency_limit_reached": _BUSY,
    "batch_concurrency_limit_reached": _BUSY,
    "rate_limit_exceeded": (
        "Wait, then make the same call again; whatever else uses the user's key counts in this limit too."
    ),
    "generation_not_deletable_while_processing": "Call wait_for_generations first: a running job stays.",
    "invalid_generation_id": "Copy the whole generation_id from list_generations or create_generation.",
    "unsupported_generation_id_format": (
        "The API does not take ids of this kind any more: list_generations tells those that it takes."
    ),
    "generation_not_found": (
        "Look in list_generations, which has all jobs of this account, and copy the generation_id whole."
    ),
    "generation_conflict": "Another request changes this job: get_generation tells how it is now.",
    "generation_media_probe_timeout": (
        "The API could not measure the media in time: call estimate_cost in a while, or ask the user for a "
        "smaller file."
    ),
    "generation_media_probe_unavailable": (
        "The API cannot measure media at present: call estimate_cost in a while, and create_generation once "
        "that answers."
    ),
    "controller_timeout": _SLOW,
    "generation_timeout": _SLOW,
    "controller_unavailable": _DOWN,
    "controller_dependency_error": _DOWN,
    "internal_error": (
        "The API broke down: make the same call again once; if it stays, the user gives Sync's support the "
        "request_id."
    ),
    "project_not_found": "Ask the user which project they mean, or leave project_id out.",
    "asset_not_found": "The asset is not there: give the file as path, or to upload_asset once more.",
    "asset_forbidden": (
        "The asset is another account's: upload_asset makes one of this account, or the user sets "
        "SYNC_API_KEY of the other."
    ),
    "invalid_asset_id_format": "Copy the whole asset_id from upload_asset, or give the file as path.",
    "uploaded_file_not_found": "The file did not arrive: call upload_asset again.",
    "file_not_in_org_storage": "Only what lies in Sync's storage is taken here: upload_asset puts it there.",
    "file_size_exceeds_plan_limit": (
        "Ask the user for a smaller file, or whether they take a higher plan: get_account tells theirs."
    ),
    "voice_not_found": "Call list_voices, and give one of its voice_id.",
    "voice_sample_not_accessible": f"{_SAMPLE}, as path or a url that opens for everybody.",
    "voice_sample_type_unsupported": f"{_SAMPLE}: sound, or a video with sound.",
    "voice_sample_upload_required": (
        "Call clone_voice with path or a public url: the recording is put into Sync's storage then."
    ),
    "voice_sample_extraction_failed": f"{_SAMPLE}: in this one nothing can be heard.",
    "voice_sample_invalid": f"{_SAMPLE}, as WAV, MP3 or MP4: this one cannot be decoded.",
    "voice_sample_source_too_large": f"{_SAMPLE}, such as two minutes of sound alone: this one is too large.",
    "voice_sample_too_short": f"{_SAMPLE}, best of half a minute or more: this one is too short.",
    "voice_name_conflict": (
        "Take the voice of that name, which list_voices shows, or call clone_voice with another name."
    ),
    "voice_clone_busy": "Another clone is being made: call clone_voice again in a minute.",
    "voice_verification_required": "Tell the user: Sync wants this voice verified in its Studio first.",
    "voice_blocked": "Tell the user that Sync has blocked this voice, and take another one of list_voices.",
    "voice_access_denied": "This account may not use this voice: take one of list_voices.",
    "elevenlabs_api_key_invalid": (
        "Sync's own access to its speech service fails: tell the user, who can tell Sync's support."
    ),
    "elevenlabs_service_unavailable": (
        "The speech service is down: make the same call again in a while; an audio item instead of a script "
        "works in create_generation meanwhile."
    ),
    "usage_dependency_unavailable": (
        "The API cannot tell the usage at present: get_account still tells what the ledger counts."
    ),
    "cost_estimate_unavailable": "Call estimate_cost with duration_seconds, which gives a hint.",
    "generation_media_metadata_missing": (
        "The API cannot read the length of the media: ask the user for MP4, WAV or MP3, made anew."
    ),
    "generation_audio_length_exceeded": "Ask the user for a shorter recording: the API takes 300 s at most.",
    "generation_text_length_exceeded": (
        "Shorten the script, or call create_generation once for each part: 5,000 characters at most."
    ),
    "generation_audio_missing": (
        "Call create_generation with an audio item, or a text item and a voice_id of list_voices."
    ),
    "generation_video_missing": "Call create_generation with a video or image item in input.",
    "generation_internal_auth": "Sync's services refuse one another: only Sync's support can mend that.",
    "batch_plan_required": "Tell the user: batches need a higher plan; create_generation works without one.",
    "dialogue_edit_retime_required": (
        "Tell the user: Sync has not opened transcripts and dialogue edits to their organization's keys yet; "
        "Sync's support can. Until then a recording of the new words works, in create_generation."
    ),
    "dialogue_edit_removal_too_large": "Call edit_dialogue with fewer words to remove at once.",
    "dialogue_edit_unsupported": "Call edit_dialogue with the whole video: with a key no part is edited.",
    "dialogue_edit_not_found": (
        "Copy the whole dialogue_edit_id from edit_dialogue; get_dialogue_edit says how it is."
    ),
    "dialogue_edit_source_mismatch": (
        "Give the very video whose words are edited, by the asset_id that transcribe told."
    ),
    "dialogue_edit_audio_conflict": (
        "Call create_generation with the video alone: a dialogue edit brings its own audio."
    ),
    "INVALID_IDEMPOTENCY_KEY": (
        "This is a fault of the server: ask the user to report it with the server's log."
    ),
    "IDEMPOTENCY_KEY_REUSED": (
        "The API knows this key from another request: look in list_generations, and tell the user."
    ),
    "IDEMPOTENCY_CONFLICT": (
        "The same call is still on its way: look in list_generations before making it again."
    ),
    "IDEMPOTENCY_OUTCOME_UNKNOWN": (
        "Make exactly the same create_generation call again: it looks for the job, and pays nothing twice."
    ),
}
"""By the API's error codes (API §13, §25): the same words for the same cause only."""

# By the start of a code that is new to this version, or by a part of the table that was renamed.
_BY_START: Mapping[str, str] = {
    "generation_input_": "Correct the input as the API says, and call create_generation again.",
    "generation_infra_": _DOWN,
    "generation_media_": "Ask the user for the media in another form: MP4 with H.264, WAV or MP3.",
    "generation_plan_": "Tell the user: the plan does not allow this; get_account tells the plan.",
    "controller_": _DOWN,
    "voice_": "Take another voice: list_voices.",
    "elevenlabs_": "Give an audio item instead of a script to create_generation, or tell the user.",
    "asset_": "Give the file as path, or to upload_asset once more.",
    "account_": f"Tell the user what the API says of their account; billing: {_BILLING}.",
    "dialogue_edit_": "Correct what the API names, and call edit_dialogue again.",
    "IDEMPOTENCY_": "Look in list_generations for the job before making it again.",
}

REMEDY_ELSE = "Call create_generation again once; if it fails again, ask the user about other media."

_ADDED: Mapping[Code, str] = {
    "api_timeout": "If it stays so, the user can look whether the network or Sync is slow.",
    "configuration_error": "Ask the user to correct the server's settings and to restart it.",
    "conflict": "get_generation or list_generations tells how it is now.",
    "concurrency_limit_reached": "wait_for_generations waits for one.",
    "create_under_way": "Or look in list_generations.",
    "file_changed": "The user knows what writes to it.",
    "file_damaged": "Ask the user for another copy.",
    "file_empty": "Ask the user whether it was saved whole.",
    "file_not_allowed": "The user allows others in SYNC_MCP_MEDIA_ROOTS.",
    "file_not_found": "Ask the user where it lies.",
    "file_not_media": "Ask the user which file they mean.",
    "file_not_readable": "The user can let the server read it.",
    "file_not_writable": "Or leave path out: then SYNC_MCP_DOWNLOAD_DIR is taken.",
    "file_exists": "Ask the user whether it may be overwritten.",
    "file_refused": "Ask the user for another one.",
    "file_too_large": "Ask the user for a smaller one.",
    "file_too_slow": "Ask the user for it.",
    "folder_not_found": "The user can make it, or set SYNC_MCP_DOWNLOAD_DIR.",
    "generation_failed": "get_generation says what went wrong.",
    "generation_running": "wait_for_generations waits for its end.",
    "media_extra_missing": "That is for the user to do.",
    "media_worker_failed": "That is for the user to do: without it files cannot be checked.",
    "no_output": "get_generation tells when there is one.",
    "not_found": "list_generations has the jobs, list_voices the voices, upload_asset makes assets.",
    "payment_required": "That is for the user; get_account tells the plan.",
    "permission_denied": "The user sets it as SYNC_API_KEY.",
    "rate_limit_exceeded": "Whatever else uses the user's key counts in this limit too.",
    "request_rejected": "Where it says too little, ask the user.",
    "server_error": "If it stays so, tell the user: https://status.sync.so shows how Sync is.",
    "transfer_under_way": "Tell the user that it takes a while.",
}
"""Who helps, by code, where an error's own words name nobody."""

_NAMES_SOMEBODY = re.compile(
    r"\b(?:transcribe|(?:[a-z]+_)+(?:batch|campaign|generations?|costs?|assets?|projects?|voices?|speech|models"
    r"|account|usage|ledger|dialogue|dialogue_edit)|[A-Z]+_[A-Z_]+|users?|[Ss]upport)\b"
)


_AGAIN = re.compile(r"(?<!this )(?<!same )\b([Cc])all again\b")


def names_somebody(step: str) -> bool:
    """Return whether a step names a tool, a setting or a person."""
    return bool(_NAMES_SOMEBODY.search(step))


def api_remedy(api_code: str | None) -> str | None:
    """Return what can be done about an error code of the API's, or None for one that is not known."""
    if not api_code:
        return None
    by_start = (step for start, step in _BY_START.items() if api_code.startswith(start))
    return API_REMEDIES.get(api_code) or next(by_start, None)


def next_step(error: SyncError, tool: str = "") -> str:
    """Return what an assistant can do next about an error of a call to `tool`; it names somebody."""
    if isinstance(error, LimitReached):
        # Its own words are those of the library, for who sets limits in a program.
        return limit_next_step(error, tool)
    step = _AGAIN.sub(rf"\1all {tool} again", error.next_step) if tool else error.next_step
    if isinstance(error, APIStatusError) and error.next_step == type(error).next_step:
        step = api_remedy(error.api_code) or step
    if not names_somebody(step):
        step = f"{step} {_ADDED.get(error.code, '')}".strip()
    if not names_somebody(step):
        on = "Or" if " again" in step else f"Then call {tool} again, or"
        step = f"{step} {on} ask the user." if tool and step else step
    return (
        step
        if names_somebody(step)
        else f"{step} Tell the user what went wrong, and ask how to go on.".strip()
    )
