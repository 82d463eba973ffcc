import pytest

from sync_mcp.access import checked_origin


@pytest.mark.parametrize(
    "url",
    ["https://API.sync.so", "HTTPS://api.sync.so/", "https://api.sync.so:443", " https://api.sync.so:443/ "],
)
def test_one_api_has_one_spelling(url: str) -> None:
    assert checked_origin(url) == "https://api.sync.so"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://[::1]:8080", "https://api.sync.so:8443", "https://host/V2"]
)
def test_what_tells_one_api_from_another_stays(url: str) -> None:
    assert checked_origin(url) == url
