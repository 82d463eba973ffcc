"""Ids by which nobody could be answered."""

import httpx
import pytest

from tests.serving.http.web import BEARER, Web

INVALID_REQUEST = -32600
HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "authorization": BEARER,
}


def sent(web: Web, body: str) -> httpx.Response:
    return httpx.post(web.url, content=body, headers=HEADERS, trust_env=False)


@pytest.mark.parametrize("request_id", ["1.5", "null", "true", "NaN", "{}", "[1]"])
def test_a_request_with_an_unusable_id_is_refused(web: Web, request_id: str) -> None:
    answer = sent(web, f'{{"jsonrpc":"2.0","id":{request_id},"method":"tools/list"}}')
    assert answer.status_code == 400
    assert answer.json()["id"] is None
    assert answer.json()["error"]["code"] == INVALID_REQUEST


@pytest.mark.parametrize("request_id", ["1", '"one"', "0", '""', "-7"])
def test_a_request_with_an_id_of_either_kind_is_answered(web: Web, request_id: str) -> None:
    answer = sent(web, f'{{"jsonrpc":"2.0","id":{request_id},"method":"tools/list"}}')
    assert answer.status_code == 200
    assert '"tools"' in answer.text


@pytest.mark.parametrize("id_of_none", ["", '"id":null,'])
def test_a_notification_is_taken_even_with_an_id_of_null(web: Web, id_of_none: str) -> None:
    answer = sent(web, f'{{"jsonrpc":"2.0",{id_of_none}"method":"notifications/initialized"}}')
    assert (answer.status_code, answer.content) == (202, b"")
