"""In which order the tests run."""

from typing import cast

import pytest

from tests.conftest import pytest_collection_modifyitems


class _Named(pytest.Item):
    def runtest(self) -> None:
        raise AssertionError("only put in order")


class Config:
    def __init__(self, seed: int | None) -> None:
        self.seed = seed

    def getoption(self, name: str) -> int | None:
        assert name == "--shuffle"
        return self.seed


def ordered(items: list[pytest.Item], seed: int | None) -> list[pytest.Item]:
    again = list(items)
    pytest_collection_modifyitems(cast(pytest.Config, Config(seed)), again)
    return again


@pytest.fixture
def items(request: pytest.FixtureRequest) -> list[pytest.Item]:
    """Twenty tests, of which number 7 is slow and number 12 is to be alone."""
    made = [_Named.from_parent(request.node.parent, name=str(n)) for n in range(20)]  # pyright: ignore[reportUnknownMemberType]
    made[7].add_marker("slow")
    made[12].add_marker("alone")
    return list(made)


def test_a_seed_makes_one_order_of_all_tests_and_another_seed_another(items: list[pytest.Item]) -> None:
    first = ordered(items, 4)
    assert first == ordered(items, 4)
    assert first not in (items, ordered(items, 5))
    assert sorted(first, key=items.index) == items


def test_without_a_seed_the_slow_ones_and_those_that_are_to_be_alone_come_first(
    items: list[pytest.Item],
) -> None:
    names = [item.name for item in ordered(items, None)]
    assert names == ["7", "12", *(str(n) for n in range(20) if n not in (7, 12))]
