from collections.abc import Mapping

import pytest

from .generate import STALE, snapshots, stale


@pytest.fixture(scope="module")
def wanted() -> Mapping[str, str]:
    return snapshots()


def test_the_snapshots_are_what_the_tools_say_today(wanted: Mapping[str, str]) -> None:
    changed = stale(wanted)
    assert not changed, f"{STALE} ({', '.join(changed)})"


def test_a_snapshot_that_is_missing_or_changed_is_called_stale(wanted: Mapping[str, str]) -> None:
    name = next(iter(wanted))
    assert stale({**wanted, name: wanted[name] + " "}) == [name]
    assert stale({**wanted, "tool_new.json": "{}"}) == ["tool_new.json"]


def test_two_runs_make_the_same_snapshots(wanted: Mapping[str, str]) -> None:
    assert snapshots() == wanted
