"""The search for a create in doubt reads the list as far as its job may stand, however odd the list is."""

from collections.abc import Callable, Sequence

import pytest

from sync_mcp import AsyncSync, OutcomeUnknown

from .conftest import COUNT, CREATE, LIST, ago, in_turn, job, jobs, make, paged, trail
from .raw_server import Answer, RawServer, Received, answer

pytestmark = pytest.mark.anyio
LOST = Answer()
Job = dict[str, object]


def accepted_at_last() -> Callable[[Received], Answer]:
    """Lose the first create, and accept the second."""
    return in_turn(LOST, answer(201, job("sent-again")))


async def test_the_job_is_found_on_a_later_page_of_a_list_whose_pages_hold_twenty_whatever_the_limit(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(
        create=accepted_at_last(), listed=paged([*jobs(50), job("mine"), *jobs(9, name="old")], 20)
    )
    assert (await make(client_of(server, max_retries=1))).id == "mine"
    assert [one.query for one in server.received[1:]] == [
        {"limit": "100"},
        {"limit": "100", "cursor": "other-19"},
        {"limit": "100", "cursor": "other-39"},
    ]


async def test_the_search_ends_at_an_empty_page(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=accepted_at_last(), listed=paged(jobs(3)))
    assert (await make(client_of(server, max_retries=1))).id == "sent-again"
    assert trail(server.received) == [CREATE, *[LIST] * 4, CREATE]


async def test_the_search_ends_at_a_page_that_is_wholly_older_than_an_hour_before_the_first_send(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=accepted_at_last(), listed=paged(jobs(300, since=3700)))
    assert (await make(client_of(server, max_retries=1))).id == "sent-again"
    assert trail(server.received) == [CREATE, LIST, LIST, CREATE]


async def test_a_page_that_is_only_in_part_older_does_not_end_the_search(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    mixed = [*jobs(1), *jobs(2, since=3700, name="old"), job("mine")]
    server = serve(create=accepted_at_last(), listed=paged(mixed, 3))
    assert (await make(client_of(server, max_retries=1))).id == "mine"


@pytest.mark.parametrize("moment", [None, "yesterday"], ids=["no time", "an unreadable time"])
async def test_a_page_of_jobs_without_a_time_does_not_end_the_search(
    serve: Callable[..., RawServer],
    client_of: Callable[..., AsyncSync],
    pauses: list[float],
    moment: str | None,
) -> None:
    server = serve(create=accepted_at_last(), listed=paged([*jobs(100, createdAt=moment), job("mine")]))
    assert (await make(client_of(server, max_retries=1))).id == "mine"


def turned_round(newest_first: Sequence[Job], size: int) -> Callable[[Received], Answer]:
    """Answer pages that hold what they should, each with its oldest entry first."""

    def page(request: Received) -> Answer:
        ids = [entry["id"] for entry in newest_first]
        start = ids.index(request.query["cursor"]) + 1 if "cursor" in request.query else 0
        return answer(200, newest_first[start : start + size][::-1])

    return page


async def test_a_list_whose_pages_are_turned_round_is_read_to_its_end_in_as_few_pages(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(
        create=accepted_at_last(), listed=turned_round([*jobs(199), job("mine", createdAt=ago(0))], 20)
    )
    assert (await make(client_of(server, max_retries=1))).id == "mine"
    assert trail(server.received).count(LIST) <= 12


async def test_a_list_whose_pages_are_turned_round_ends_where_it_gets_older(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    listed = turned_round([*jobs(20), *jobs(1000, since=3700, name="old")], 20)
    server = serve(create=accepted_at_last(), listed=listed)
    assert (await make(client_of(server, max_retries=1))).id == "sent-again"
    assert trail(server.received).count(LIST) <= 8


async def test_a_list_that_begins_with_the_oldest_job_is_read_to_the_newest(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    old = jobs(150, since=3700)[::-1]
    server = serve(create=accepted_at_last(), listed=paged([*old, job("mine")], 50))
    assert (await make(client_of(server, max_retries=1))).id == "mine"


async def test_a_list_that_shows_each_job_twice_comes_to_its_end(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    doubled = [entry for entry in jobs(40) for _ in range(2)]

    def page(request: Received) -> Answer:
        cursor = request.query.get("cursor")
        places = [place for place, entry in enumerate(doubled) if entry["id"] == cursor]
        start = places[-1] + 1 if places else 0
        return answer(200, doubled[start : start + 20])

    server = serve(create=accepted_at_last(), listed=page)
    assert (await make(client_of(server, max_retries=1))).id == "sent-again"


async def test_a_list_that_brings_nothing_new_is_whole_where_the_api_counts_as_many_jobs(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    # A page begins with the job that the cursor names, and so the last one is never empty.
    entries = jobs(3)

    def page(request: Received) -> Answer:
        ids = [entry["id"] for entry in entries]
        start = ids.index(request.query["cursor"]) if "cursor" in request.query else 0
        return answer(200, entries[start:])

    server = serve(create=accepted_at_last(), listed=page, count=answer(200, {"count": 3}))
    assert (await make(client_of(server, max_retries=1))).id == "sent-again"
    assert trail(server.received) == [CREATE, *[LIST, LIST, COUNT] * 2, CREATE]


@pytest.mark.parametrize(
    "count",
    [answer(200, {"count": 101}), answer(404, {"message": "Cannot GET"}), answer(200, b"100"), LOST],
    ids=["there are more", "nobody counts", "no count", "no answer"],
)
async def test_a_list_that_repeats_its_page_is_not_read_for_ever_and_nothing_is_sent_again(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float], count: Answer
) -> None:
    server = serve(create=accepted_at_last(), listed=answer(200, jobs(100)), count=count)
    with pytest.raises(OutcomeUnknown) as caught:
        await make(client_of(server, max_retries=1))
    assert trail(server.received) == [CREATE, *[LIST, LIST, COUNT] * 2]
    assert caught.value.reason == "list_unreadable"


async def test_a_list_that_never_ends_is_given_up_and_nothing_is_sent_again(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    def page(request: Received) -> Answer:
        return answer(200, jobs(2, name=f"after-{server.connections}"))

    server = serve(create=accepted_at_last(), listed=page)
    with pytest.raises(OutcomeUnknown) as caught:
        await make(client_of(server, max_retries=0, timeout=30))
    assert trail(server.received).count(CREATE) == 1
    assert caught.value.reason == "list_unreadable"
    assert "goes on after 100 pages" in caught.value.message


async def test_a_later_page_that_fails_is_asked_for_again_and_not_the_whole_list(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    throttled = answer(429, {"message": "slow down", "statusCode": 429}, {"Retry-After": "1"})
    listed = in_turn(answer(200, jobs(20)), throttled, LOST, answer(200, [job("mine")]))
    server = serve(create=LOST, listed=listed)
    assert (await make(client_of(server, max_retries=0))).id == "mine"
    assert trail(server.received) == [CREATE, *[LIST] * 4]
    assert pauses[0] == 1


async def test_a_later_page_that_keeps_failing_leaves_the_list_unread(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    listed = in_turn(answer(200, jobs(20)), answer(500, {"message": "broken", "statusCode": 500}))
    server = serve(create=accepted_at_last(), listed=listed)
    with pytest.raises(OutcomeUnknown) as caught:
        await make(client_of(server, max_retries=0))
    assert caught.value.reason == "list_unreadable"
    assert trail(server.received) == [CREATE, *[LIST] * 4]


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("others", [0, 2, 22, 42, 62])
async def test_a_job_that_some_readings_of_a_page_leave_out_is_found_by_another(
    serve: Callable[..., RawServer],
    client_of: Callable[..., AsyncSync],
    pauses: list[float],
    place: int,
    others: int,
) -> None:
    entries = jobs(others)
    entries.insert(min(place, others), job("mine"))
    readings = 0

    def page(request: Received) -> Answer:
        nonlocal readings
        readings += 1
        left_out = {entry["id"] for entry in entries[(readings - 1) % 3 :: 3]}
        ids = [entry["id"] for entry in entries]
        start = ids.index(request.query["cursor"]) + 1 if "cursor" in request.query else 0
        return answer(200, [entry for entry in entries[start:] if entry["id"] not in left_out][:20])

    server = serve(create=accepted_at_last(), listed=page)
    assert (await make(client_of(server, max_retries=1))).id == "mine"


async def test_a_job_that_may_be_it_is_remembered_when_the_list_leaves_it_out_again(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    seen = answer(200, [job("whose", createdAt=None)])
    listed = in_turn(seen, answer(200, []))
    server = serve(create=accepted_at_last(), listed=listed)
    with pytest.raises(OutcomeUnknown) as caught:
        await make(client_of(server, max_retries=2))
    assert caught.value.maybe_ids == ("whose",)
    assert trail(server.received).count(CREATE) == 1


async def test_a_job_of_another_time_than_the_apis_clock_tells_is_not_paid_beside(
    serve: Callable[..., RawServer], client_of: Callable[..., AsyncSync], pauses: list[float]
) -> None:
    server = serve(create=accepted_at_last(), listed=paged([job("whose", createdAt=ago(600))]))
    with pytest.raises(OutcomeUnknown) as caught:
        await make(client_of(server, max_retries=2))
    assert caught.value.reason == "maybe_seen"
