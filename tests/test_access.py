import pytest

from sync_mcp.access import check_origin, is_placeholder


@pytest.mark.parametrize(
    "url",
    ["https://API.sync.so", "HTTPS://api.sync.so/", "https://api.sync.so:443", " https://api.sync.so:443/ "],
)
def test_one_api_has_one_spelling(url: str) -> None:
    assert check_origin(url) == "https://api.sync.so"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://[::1]:8080", "https://api.sync.so:8443", "https://host/V2"]
)
def test_what_tells_one_api_from_another_stays(url: str) -> None:
    assert check_origin(url) == url


PLACEHOLDERS = (
    "your key",
    '"your key"',
    "YOUR_API_KEY",
    "<your-api-key>",
    "your-sync-api-key-here",
    "my key",
    "api_key",
    "SYNC_API_KEY",
    "sk-...",
    "sk_xxxxxxxx",
    "...",
    "$SYNC_API_KEY",
    "${SYNC_API_KEY}",
    "${env:SYNC_API_KEY}",
    "{env:SYNC_API_KEY}",
    "%SYNC_API_KEY%",
    "sk-your-key",
    "sk-your-api-key-here",
    "sk_your_api_key",
    "paste-your-key-here",
    "your_api_key_goes_here",
    "changeme",
    "REPLACE_ME",
    "${API_KEY}",
    "${input:sync_api_key}",
    "${user_config.api_key}",
    "{{sync_api_key}}",
    "sk_live_xxxxx",
)


@pytest.mark.parametrize("key", PLACEHOLDERS)
def test_what_stands_in_examples_in_place_of_a_key_is_no_key(key: str) -> None:
    assert is_placeholder(key)


@pytest.mark.parametrize(
    "key", ["any", "sk_invalid", "sk-Yk3x8vQ2mXw0", "key-0", "test", "$ecret", "sk_x1xx", "sk_live_4x8"]
)
def test_any_other_word_may_be_a_key(key: str) -> None:
    assert not is_placeholder(key)
