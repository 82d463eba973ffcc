"""Whether the API can be reached, how fast, and what its clock says."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sync_mcp import APIConnectionError, APIResponseError, AsyncSync
from sync_mcp.sandbox import Fault, Sandbox

from .conftest import trail
from .raw_server import RawServer, answer

pytestmark = pytest.mark.anyio

both_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
Serve = Callable[..., RawServer]
ClientOf = Callable[..., AsyncSync]


@both_backends
async def test_a_ping_reads_one_public_list_and_measures_it(sandbox: Sandbox) -> None:
    # The key is one that the API does not know.
    async with AsyncSync(api_key="sk_invalid", base_url=sandbox.url, timeout=20) as sync:
        ping = await sync.ping()
        assert sync.sandboxed
    assert trail(sandbox.requests) == ["GET /v2/errors"]
    assert 0 < ping.latency_seconds < 20


async def test_the_latency_holds_the_time_that_the_api_takes(sandbox: Sandbox, sync: AsyncSync) -> None:
    sandbox.add_fault(Fault(path="/v2/errors", delay_seconds=0.3))
    assert (await sync.ping()).latency_seconds >= 0.3


@pytest.mark.parametrize("ahead_seconds", [3600, -3600, 0])
async def test_the_clock_is_compared_with_the_apis(
    ahead_seconds: int, serve: Serve, client_of: ClientOf
) -> None:
    told = format_datetime(datetime.now(UTC) - timedelta(seconds=ahead_seconds), usegmt=True)
    ping = await client_of(serve(answer(200, [], {"Date": told}))).ping()
    assert ping.clock_offset_seconds == pytest.approx(ahead_seconds, abs=5)


@pytest.mark.parametrize(
    "date",
    [
        "",
        "soon",
        "Tue, 24 Nov 99999999999999999999 05:00:00 GMT",
        "Tue, 24 Nov 2020 05:00:00 +99999999999999",
        "Tue, 99 Nov 2020 05:00:00 GMT",
    ],
)
async def test_a_time_that_nobody_can_read_is_no_time(date: str, serve: Serve, client_of: ClientOf) -> None:
    ping = await client_of(serve(answer(200, [], {"Date": date}))).ping()
    assert ping.clock_offset_seconds is None


async def test_where_no_time_is_told_there_is_no_offset(serve: Serve, client_of: ClientOf) -> None:
    assert (await client_of(serve(answer(200, []))).ping()).clock_offset_seconds is None


async def test_an_api_that_takes_no_connection_is_an_error(client_of: ClientOf) -> None:
    with RawServer([answer()]) as gone:
        client = client_of(gone)
    with pytest.raises(APIConnectionError, match="cannot be reached"):
        await client.ping()


async def test_a_page_of_html_is_no_api(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(html=True, times=None))
    async with AsyncSync(api_key="any", base_url=sandbox.url, max_retries=0) as sync:
        with pytest.raises(APIResponseError, match="is not the API's JSON"):
            await sync.ping()
