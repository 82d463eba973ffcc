import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from sync_mcp import ConfigurationError, Settings
from sync_mcp.cli.parser import create_parser

KEY = "sk_Test-1234567890"


def _read(environment: Mapping[str, str], **flags: object) -> Settings:
    return Settings.from_environment(environment, **flags)


def _complaint(environment: Mapping[str, str], **flags: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        _read(environment, **flags)
    message = caught.value.message
    assert message.isprintable()
    assert caught.value.money_spent == "no"
    return message


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = _read({})
    assert settings == Settings()
    assert settings.api_key is None
    assert settings.base_url == "https://api.sync.so"
    assert not settings.sandbox
    assert settings.log_level == "info"


def test_every_setting_has_a_variable_and_is_read_from_it() -> None:
    told = {"api_key": KEY, "base_url": "http://127.0.0.1:8787/", "sandbox": "1", "log_level": "debug"}
    assert told.keys() <= Settings.model_fields.keys() == Settings.VARIABLES.keys()
    settings = _read({Settings.VARIABLES[name]: value for name, value in told.items()})
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == KEY
    assert settings.base_url == "http://127.0.0.1:8787"
    assert settings.sandbox
    assert settings.log_level == "debug"


def test_every_setting_of_this_package_is_described_and_begins_with_its_name() -> None:
    for name, variable in Settings.VARIABLES.items():
        assert Settings.model_fields[name].description
        assert variable.startswith("SYNC_MCP_") or variable in ("SYNC_API_KEY", "SYNC_BASE_URL")


def test_a_flag_overrides_the_environment_and_one_that_was_not_given_does_not() -> None:
    environment = {"SYNC_MCP_LOG_LEVEL": "error", "SYNC_MCP_SANDBOX": "0"}
    assert _read(environment, log_level="debug", sandbox=True) == Settings(log_level="debug", sandbox=True)
    assert _read(environment, log_level=None, sandbox=None) == Settings(log_level="error")
    assert _complaint(environment, log_level="") == (
        "--log-level must be debug, info, warning or error, not ''."
    )


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_value_is_no_value(blank: str) -> None:
    assert _read(dict.fromkeys(Settings.VARIABLES.values(), blank)) == Settings()


def test_spaces_around_a_value_and_the_case_of_a_level_do_not_matter() -> None:
    settings = _read(
        {"SYNC_API_KEY": f" {KEY}\n", "SYNC_MCP_LOG_LEVEL": " Warning ", "SYNC_MCP_SANDBOX": "TRUE"}
    )
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == KEY
    assert (settings.log_level, settings.sandbox) == ("warning", True)


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("SYNC_MCP_SANDBOX", "maybe", "SYNC_MCP_SANDBOX must be 1 or 0, not 'maybe'."),
        ("SYNC_MCP_SANDBOX", "2", "SYNC_MCP_SANDBOX must be 1 or 0, not '2'."),
        (
            "SYNC_MCP_LOG_LEVEL",
            "loud",
            "SYNC_MCP_LOG_LEVEL must be debug, info, warning or error, not 'loud'.",
        ),
    ],
)
def test_a_bad_value_is_told_with_the_variable_and_what_it_may_be(
    variable: str, value: str, complaint: str
) -> None:
    assert _complaint({variable: value}) == complaint


@pytest.mark.parametrize(
    "url",
    [
        "api.sync.so",
        "ftp://api.sync.so",
        "http://api.sync.so",
        "https://",
        "https://[::1",
        "https://host:port",
        "https://host?x=1",
        "https://host#x",
    ],
)
def test_a_base_url_that_no_key_may_be_sent_to_is_refused_at_once(url: str) -> None:
    complaint = _complaint({"SYNC_BASE_URL": url})
    assert complaint.startswith("SYNC_BASE_URL must be https://host (or http on this machine)")


@pytest.mark.parametrize("url", ["https://dev-api.sync.so", "http://localhost:3001", "http://[::1]:8080"])
def test_a_base_url_may_be_any_https_origin_or_one_on_this_machine(url: str) -> None:
    assert _read({"SYNC_BASE_URL": f"{url}/"}).base_url == url


def test_credentials_in_a_base_url_are_refused_and_not_repeated() -> None:
    for secret in ("hunter2", "h" * 50):
        assert secret[:6] not in _complaint({"SYNC_BASE_URL": f"https://someone:{secret}@host/"})
        assert secret[:6] not in _complaint({"SYNC_BASE_URL": f"https://host/?token={secret}"})


def test_a_long_value_is_repeated_in_part_and_on_one_line() -> None:
    complaint = _complaint({"SYNC_MCP_LOG_LEVEL": "a\nb" + "x" * 10_000})
    assert len(complaint) < 160


@pytest.mark.parametrize(
    ("variable", "complaint"),
    [
        ("SYNC_MCP_SANDBX", "There is no setting SYNC_MCP_SANDBX; did you mean 'SYNC_MCP_SANDBOX'?"),
        ("SYNC_MCP_LOGLEVEL", "There is no setting SYNC_MCP_LOGLEVEL; did you mean 'SYNC_MCP_LOG_LEVEL'?"),
        ("sync_mcp_sandbox", "There is no setting sync_mcp_sandbox; did you mean 'SYNC_MCP_SANDBOX'?"),
        ("SYNC_MCP_", "There is no setting SYNC_MCP_"),
        ("SYNC_MCP_Ω\n", "There is no setting SYNC_MCP_Ω"),
    ],
)
@pytest.mark.parametrize("value", ["1", ""])
def test_a_misspelt_setting_is_refused_with_the_near_name(variable: str, complaint: str, value: str) -> None:
    assert _complaint({variable: value}).startswith(complaint)


def test_the_variables_of_others_are_left_alone() -> None:
    others = {"SYNC_TOKEN": "x", "SYNCTHING": "1", "MCP_SANDBOX": "1", "PATH": "/bin", "SYNC_MCPX": "1"}
    assert _read(others) == Settings()


@pytest.mark.parametrize("key", ["sk_“quoted”", "sk_a\x00b", "sk_a\nb", "ключ"])
def test_what_can_be_no_key_is_refused_and_not_repeated(key: str) -> None:
    complaint = _complaint({"SYNC_API_KEY": key})
    assert complaint.startswith("SYNC_API_KEY must be a key")
    assert key not in complaint
    assert key[:4] not in complaint


def test_a_placeholder_in_place_of_the_key_is_told_with_what_to_do() -> None:
    for key in ("your key", "YOUR_API_KEY", "${SYNC_API_KEY}"):
        [fault] = Settings.faults({"SYNC_API_KEY": key})
        assert fault.startswith("SYNC_API_KEY is a placeholder: put a key in its place")
        assert "https://sync.so/settings/api-keys" in fault


def test_a_placeholder_is_told_with_what_else_is_wrong() -> None:
    faults = Settings.faults({"SYNC_API_KEY": "your key", "SYNC_MCP_NOPE": "1"})
    assert [fault.partition(" ")[0] for fault in faults] == ["There", "SYNC_API_KEY"]


def test_a_placeholder_is_good_where_no_key_is_needed() -> None:
    key = {"SYNC_API_KEY": "your key"}
    assert not _read(key, sandbox=True).sends_placeholder
    # Who runs a sandbox alone may take any.
    assert not _read(key | {"SYNC_BASE_URL": "http://127.0.0.1:8787"}).sends_placeholder


def test_the_key_is_shown_nowhere() -> None:
    settings = _read({"SYNC_API_KEY": KEY})
    shown = [
        repr(settings),
        str(settings),
        f"{settings}",
        str(settings.model_dump()),
        settings.model_dump_json(),
    ]
    shown += [str(vars(settings)), str(list(settings)), repr(settings.model_copy(update={"sandbox": True}))]
    assert [text for text in shown if KEY in text] == []
    assert "**" in repr(settings)


def test_the_key_is_in_no_error() -> None:
    environment = {"SYNC_API_KEY": KEY, "SYNC_MCP_LOG_LEVEL": "loud", "SYNC_MCP_SANDBOX": "maybe"}
    with pytest.raises(ConfigurationError) as caught:
        _read(environment)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    for wrong in ({"api_key": [KEY]}, {"api_key": KEY, "sandbox": "maybe"}, {"api_kye": KEY}):
        with pytest.raises(ValidationError) as refused:
            Settings.model_validate(wrong)
        assert KEY not in str(refused.value)


def test_settings_do_not_change_once_read() -> None:
    settings = _read({"SYNC_API_KEY": KEY})
    with pytest.raises(ValidationError):
        settings.sandbox = True  # pyright: ignore[reportAttributeAccessIssue]
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_the_environment_is_only_read() -> None:
    environment = {"SYNC_API_KEY": f" {KEY} ", "SYNC_MCP_SANDBOX": "1"}
    before = dict(environment)
    _read(environment, sandbox=False)
    assert environment == before


@pytest.mark.parametrize(
    ("variable", "value", "shown"),
    [
        ("SYNC_BASE_URL", "user:hunter2@api.sync.so", "...@api.sync.so"),
        ("SYNC_BASE_URL", "jane:hunter2@9@api.sync.so", "...@api.sync.so"),
        ("SYNC_BASE_URL", f"jane:hunter2{'!' * 80}@api.sync.so", "...@api.sync.so"),
        ("SYNC_BASE_URL", "https://host/?token=jane@hunter2", "https://host/?..."),
        ("SYNC_BASE_URL", "sk_live_hunter2_0123456789", "..."),
        ("SYNC_BASE_URL", "sk_live_\u200bhunter2_0123456", "..."),
        ("SYNC_MCP_SANDBOX", "Bearer sk-live-hunter2-0123", "Bearer ..."),
        ("SYNC_MCP_HTTP_PORT", "sk_live_hunter2_0123456789", "..."),
        ("SYNC_MCP_HTTP_ALLOWED_HOSTS", "jane:hunter2@mcp.example.com", "...@mcp.example.com"),
    ],
)
def test_a_secret_in_the_wrong_variable_is_not_repeated(variable: str, value: str, shown: str) -> None:
    complaint = _complaint({variable: value})
    assert complaint.startswith(f"{variable} must be ")
    assert complaint.endswith(f", not '{shown}'.")


def test_an_empty_address_is_refused_by_the_name_that_it_was_given_under() -> None:
    assert _complaint({}, http_host="") == "--host must be an address of this machine, not ''."


def test_folders_are_told_with_the_systems_own_sign_between_them() -> None:
    whole = str(Path("/clips").absolute())
    settings = _read(
        {
            "SYNC_MCP_MEDIA_ROOTS": os.pathsep.join(["~/My Movies", f" {whole} ", "", "~"]),
            "SYNC_MCP_DOWNLOAD_DIR": "~/Movies/dubbed",
        }
    )
    assert settings.media_roots == (Path("~/My Movies"), Path(whole), Path("~"))
    assert settings.download_dir == Path("~/Movies/dubbed")
    assert (_read({}).media_roots, _read({}).download_dir) == (None, None)


@pytest.mark.parametrize("folder", ["Movies", "./Movies", "..", "~ann/Movies", "~x", "$HOME/Movies", "."])
def test_a_folder_that_is_no_whole_path_is_refused(folder: str) -> None:
    complaint = _complaint({"SYNC_MCP_DOWNLOAD_DIR": folder})
    assert complaint.startswith("SYNC_MCP_DOWNLOAD_DIR must be the whole path of a folder, such as ~/Movies/")
    assert complaint.endswith(f", not {folder!r}.")
    whole = str(Path("/clips").absolute())
    complaint = _complaint({"SYNC_MCP_MEDIA_ROOTS": os.pathsep.join([whole, folder])})
    assert complaint.startswith("SYNC_MCP_MEDIA_ROOTS must be whole paths of folders, such as ~/Movies, with")


def test_roots_that_name_no_folder_are_not_no_setting() -> None:
    assert _complaint({"SYNC_MCP_MEDIA_ROOTS": os.pathsep}).endswith(f", not {os.pathsep!r}.")


def test_names_of_tools_and_sets_stand_with_commas_between_in_any_case() -> None:
    settings = _read({"SYNC_MCP_TOOLSETS": " Core, ,all", "SYNC_MCP_TOOLS": "list_voices"})
    assert (settings.toolsets, settings.tools) == (("core", "all"), ("list_voices",))
    assert (_read({}).toolsets, _read({}).tools) == ((), ())


@pytest.mark.parametrize(
    ("environment", "flags", "variable"),
    [
        ({"SYNC_MCP_BUDGET_USD_PER_DAY": "${user_config.field}"}, {}, "SYNC_MCP_BUDGET_USD_PER_DAY"),
        ({"SYNC_MCP_SANDBOX": " ${user_config.field} "}, {}, "SYNC_MCP_SANDBOX"),
        ({"SYNC_MCP_HOME": "${user_config.field}"}, {}, "SYNC_MCP_HOME"),
        ({}, {"media_roots": ["~/Movies", "${user_config.field}"]}, "--root"),
    ],
)
def test_what_a_host_left_unfilled_is_told_as_such(
    environment: dict[str, str], flags: dict[str, object], variable: str
) -> None:
    assert _complaint(environment, **flags) == (
        f"{variable} was left unfilled by the host, as ${{user_config.field}}: "
        "fill in that field in the extension's settings."
    )


def test_a_key_that_a_host_left_unfilled_is_told_as_such_where_one_is_needed() -> None:
    unfilled = {"SYNC_API_KEY": "${user_config.api_key}"}
    [fault] = Settings.faults(unfilled)
    assert fault.startswith("SYNC_API_KEY was left unfilled by the host, as ${user_config.api_key}: fill in")
    assert "https://sync.so/settings/api-keys" in fault
    assert Settings.faults(unfilled | {"SYNC_MCP_SANDBOX": "true"}) == []


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (
            {"media_roots": ["~/Movies", "clips"]},
            "--root must be the whole path of a folder, such as ~/Movies, each time it is given, "
            "not 'clips'.",
        ),
        (
            {"http_allowed_hosts": ["mcp.example.com", "a b"]},
            "--allowed-host must be the name of a host, such as mcp.example.com, each time it is given, "
            "not 'a b'.",
        ),
    ],
)
def test_what_is_wrong_with_a_flag_is_told_by_the_flag_and_what_was_given(
    flags: dict[str, object], complaint: str
) -> None:
    others = {"SYNC_MCP_MEDIA_ROOTS": "~", "SYNC_MCP_HTTP_ALLOWED_HOSTS": "mcp.example.com"}
    assert _complaint(others, **flags) == complaint


def test_each_setting_that_a_flag_overrides_is_known_by_the_flag() -> None:
    parsed = vars(create_parser().parse_args(["doctor"])).keys() | {"home"}
    assert Settings.FLAGS.keys() == parsed & Settings.model_fields.keys()
    assert all(flag in create_parser().format_help() for flag in Settings.FLAGS.values() if flag != "--home")


def test_the_name_by_which_the_api_calls_the_server_may_be_told_of_a_jobs_end() -> None:
    settings = _read(
        {
            "SYNC_MCP_PUBLIC_URL": "https://MCP.example.com:8443/sync/",
            "SYNC_MCP_WEBHOOK_HOSTS": "hooks.example.com",
        }
    )
    assert settings.public_url == "https://mcp.example.com:8443/sync"
    assert settings.public_host == "mcp.example.com"
    assert settings.told_hosts == ("hooks.example.com", "mcp.example.com")
    assert _read({}).told_hosts == ()


@pytest.mark.parametrize(
    "url",
    [
        "http://mcp.example.com",
        "http://127.0.0.1:8000",
        "mcp.example.com",
        "https://user@mcp.example.com",
        "https://mcp.example.com/?a=1",
        "https://mcp.example.com/a b",
        "https://mcp.example.com\\@evil.example",
    ],
)
def test_the_api_calls_a_server_by_plain_https_alone(url: str) -> None:
    assert _complaint({"SYNC_MCP_PUBLIC_URL": url}).startswith("SYNC_MCP_PUBLIC_URL must be https://host")


def test_a_short_secret_of_webhooks_is_refused_and_not_shown() -> None:
    told = _complaint({"SYNC_MCP_WEBHOOK_SECRET": "whsec_short"})
    assert told == (
        "SYNC_MCP_WEBHOOK_SECRET must be the organization's secret, at least 16 letters and signs without "
        "spaces."
    )


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://jane:s3cret@127.0.0.1/sync", "must begin with postgresql://"),
        ("postgresql+psycopg://jane:s3cret@127.0.0.1/sync", "must begin with postgresql://"),
        ("jane:s3cret@127.0.0.1/sync", "must begin with postgresql://"),
        ("postgresql://jane:s3cret@127.0.0.1", "names no database"),
        ("postgresql://jane:s3cret@127.0.0.1/", "names no database"),
        ("postgresql://jane:s3cret@127.0.0.1/sync/s3cret", "names no database"),
        ("postgresql://jane:s3cret/x@127.0.0.1/sync", "is no URL"),
        ("postgresql://jane:s3cret#x@127.0.0.1/sync", "is no URL"),
        ("postgresql://jane:s3cret x@127.0.0.1/sync", "is no URL"),
        ("postgresql://jane:1?s3cret@127.0.0.1/sync", "names no database"),
        ("postgresql://jane@127.0.0.1/sync?password=s3cret", "the password belongs before the host"),
        ("postgresql://jane:s3cret@127.0.0.1/sync?s3cret=1", "may have these after ?"),
        ("postgresql://jane:s3cret@127.0.0.1/sync?sslmode=disable&sslmode=s3cret", "may have these after ?"),
        ("postgresql://jane:s3cret@127.0.0.1/sync?host=db.example.com", "names its host after //"),
        ("postgresql://jane:s3cret@127.0.0.1/sync?pgbouncer=s3cret", "may have pgbouncer=true"),
        ("postgresql://jane:s3cret@127.0.0.1/sync?sslmode=s3cret", "must leave sslmode at verify-full"),
        *(
            (f"postgresql://jane:s3cret@db.example.com/sync?sslmode={mode}", "must leave sslmode")
            for mode in ("disable", "allow", "prefer", "require")
        ),
    ],
)
def test_a_database_that_cannot_be_used_is_told_by_what_is_wrong_and_not_shown(url: str, told: str) -> None:
    complaint = _complaint({"SYNC_MCP_DATABASE_URL": url})
    assert complaint.startswith("SYNC_MCP_DATABASE_URL ")
    assert told in complaint
    assert "s3cret" not in complaint


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://127.0.0.1/sync",
        "postgres://jane:s3cret@localhost:5433/sync?sslmode=disable&application_name=studio",
        "postgresql://jane:p%40ss%2Fword@db.example.com/sync",
        "postgresql://jane@db.example.com/sync?sslmode=verify-ca&sslrootcert=/etc/ssl/ours.pem&pgbouncer=true",
        "postgresql:///sync?host=/var/run/postgresql",
    ],
)
def test_a_database_is_one_on_this_machine_or_one_whose_server_proves_who_it_is(url: str) -> None:
    settings = _read({"SYNC_MCP_DATABASE_URL": f" {url} "})
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == url
    assert "s3cret" not in repr(settings)
