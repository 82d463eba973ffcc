"""An environment in which the API cannot be reached by any call."""

from pathlib import Path

import pytest

from tests.server.host import KEY, hosted, media, text

ELSEWHERE = "https://api.example.invalid"


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("SSL_CERT_FILE", "missing.pem", "SSL_CERT_FILE"),
        ("HTTPS_PROXY", "foo://jane:hunter2@proxy.example", "HTTPS_PROXY"),
        ("HTTPS_PROXY", "http://proxy.example:port", "HTTPS_PROXY"),
    ],
)
def test_what_is_set_wrong_is_no_fault_of_the_call(
    tmp_path: Path, variable: str, value: str, told: str
) -> None:
    value = str(tmp_path / value) if variable == "SSL_CERT_FILE" else value
    with hosted(env={"SYNC_API_KEY": KEY, "SYNC_BASE_URL": ELSEWHERE, variable: value}) as host:
        for tool, arguments in (
            ("list_generations", {}),
            ("create_generation", {"input": media("https://media.example")}),
        ):
            result = host.call(tool, **arguments)
            assert (result["_meta"]["code"], result["_meta"]["money_spent"]) == ("configuration_error", "no")
            assert told in text(result)
            assert "hunter2" not in text(result)
