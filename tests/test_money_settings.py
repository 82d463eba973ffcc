from dataclasses import fields
from decimal import Decimal

import pytest

from sync_mcp import ConfigurationError, Limits, Settings
from sync_mcp.tools.limit_words import LIMIT_WORDS

LIMITS = {limit: Settings.VARIABLES[setting] for limit, setting in Settings.LIMITS.items()}
AMOUNTS = ("SYNC_MCP_APPROVE_ABOVE_USD", *LIMITS.values())


def test_by_default_the_user_is_asked_above_a_dollar_and_nothing_is_limited() -> None:
    settings = Settings.from_environment({})
    assert settings.approve_above_usd == Decimal(1)
    assert settings.approve_by == "ask"
    assert settings.limits == {}
    assert not settings.read_only


def test_every_limit_has_a_setting_and_is_told_by_its_name() -> None:
    assert LIMITS.keys() == {field.name for field in fields(Limits)}
    assert {name: words.setting for name, words in LIMIT_WORDS.items()} == LIMITS


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_is_handed_on_under_the_name_that_the_payments_have_for_it(limit: str) -> None:
    assert Settings.from_environment({LIMITS[limit]: "2.50"}).limits == {limit: Decimal("2.50")}


def test_amounts_are_exact() -> None:
    settings = Settings.from_environment({"SYNC_MCP_BUDGET_USD": "0.1", "SYNC_MCP_APPROVE_ABOVE_USD": "0.30"})
    assert settings.budget_usd == Decimal("0.1")
    assert settings.approve_above_usd == Decimal("0.3")


@pytest.mark.parametrize("word", ["never", "NEVER", " never "])
def test_asking_can_be_turned_off(word: str) -> None:
    assert Settings.from_environment({"SYNC_MCP_APPROVE_ABOVE_USD": word}).approve_above_usd == "never"


@pytest.mark.parametrize("variable", AMOUNTS)
@pytest.mark.parametrize("value", ["-1", "nan", "inf", "ten", "1,50", "1e9", "0x10"])
def test_a_limit_that_is_no_amount_ends_the_start_and_is_named(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable} must be an amount of US dollars"):
        Settings.from_environment({variable: value})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SYNC_MCP_APPROVE_BY", "model"),
        ("SYNC_MCP_RESEND_HOURS", "-1"),
        ("SYNC_MCP_RESEND_HOURS", "169"),
        ("SYNC_MCP_READ_ONLY", "maybe"),
    ],
)
def test_another_wrong_value_ends_the_start_and_is_named(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable} must be"):
        Settings.from_environment({variable: value})


def test_a_misspelt_limit_is_not_no_limit() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'SYNC_MCP_BUDGET_USD_PER_DAY'"):
        Settings.from_environment({"SYNC_MCP_BUDGET_PER_DAY": "5"})
