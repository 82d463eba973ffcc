import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import sync_mcp
from sync_mcp.texts import clean, fold_words, near, safe, unwrap, without_queries

SECRET = "sEcReT5ignature"
_WORDS = st.text(st.characters(exclude_categories=["Z", "Cc"], exclude_characters="?#/@\\"), max_size=12)


@given(st.text(st.characters()), st.integers(min_value=1, max_value=300))
def test_cleaned_text_is_one_line_without_control_characters_and_within_its_limit(
    text: str, limit: int
) -> None:
    shown = clean(text, limit)
    assert len(shown) <= limit
    assert shown == " ".join(shown.split())
    assert not [character for character in shown if unicodedata.category(character)[0] == "C"]
    assert clean(shown, limit) == shown


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=40))
def test_plain_words_are_shown_as_they_are(text: str) -> None:
    assert clean(text, 40) == text


def test_what_is_cut_off_ends_in_an_ellipsis() -> None:
    assert clean("one two three", 9) == "one two…"
    assert clean("one two", 7) == "one two"
    assert clean("x" * 10_000_000, 5) == "xxxx…"


@pytest.mark.parametrize(
    ("hidden", "name"),
    [
        ("\u200b", "a zero-width space"),
        ("\u202e", "a turn to right-to-left"),
        ("\x1b[31m", "a terminal's colour"),
        ("\x00", "a null"),
        ("\ud800", "half a surrogate pair"),
        ("\U000e0041", "a tag character, which only a model reads"),
        ("\ufe01\U000e0123", "variation selectors, which can carry a text"),
        ("\u3164", "a filler that is drawn as nothing"),
        ("\u2800", "braille without a dot"),
        ("\x1b[2J\x1b[1;1H", "an erased screen"),
        ("\x9b31m", "a colour in one character"),
        ("\x1b]0;a title\x07", "a window's title"),
        ("\x1b]8;;https://example.com\x1b\\", "a link"),
    ],
)
def test_characters_that_nobody_sees_are_left_out(hidden: str, name: str) -> None:
    assert clean(f"a{hidden}b", 10) == "ab", name


def test_a_terminals_command_without_an_end_hides_nothing_that_follows() -> None:
    assert clean("a\x1b]0;title b", 20) == "a]0;title b"
    assert clean("a\x1b[b", 20) == "a"
    assert clean("a\x1b", 20) == "a"


def test_names_are_compared_without_case_accents_and_marks() -> None:
    assert fold_words("  Señora\u200b Núñez_2 - ÉLÉGANT!", 80) == "senora nunez 2 elegant"
    assert fold_words("x" * 100, 5) == "xxxx"


def test_line_ends_of_every_kind_become_spaces() -> None:
    assert clean("a\r\nb\u2028c\x0bd\u2029e\tf\x85g", 100) == "a b c d e f g"


@given(
    before=_WORDS,
    scheme=st.sampled_from(["https", "HTTP", "s3", "ftp"]),
    path=_WORDS,
    mark=st.sampled_from(["?", "#", "?X-Amz-Signature="]),
    query=_WORDS,
    after=st.sampled_from(["", " ", "\n", "'", '"', ").", "'>", '"}']),
)
def test_the_query_and_fragment_of_a_url_never_show(
    before: str, scheme: str, path: str, mark: str, query: str, after: str
) -> None:
    shown = safe(f"{before}{scheme}://host/{path}{mark}{query}{SECRET}{after}", 600)
    assert SECRET not in shown
    assert f"{scheme}://host/" in shown
    assert safe(shown, 600) == shown


@given(user=_WORDS, password=st.text(st.characters(exclude_categories=["Z", "Cc"], exclude_characters="?#/")))
def test_credentials_in_a_url_never_show(user: str, password: str) -> None:
    shown = safe(f"from https://{user}:{SECRET}{password}@host/clip.mp4", 600)
    assert SECRET not in shown
    assert shown.endswith("https://host/clip.mp4")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"see 'https://h/p?a=1&s={SECRET}', please", "see 'https://h/p?...', please"),
        (f"(https://h/p?s={SECRET}).", "(https://h/p?...)."),
        (f"https://h/it's/clip.mp4?s={SECRET} is gone", "https://h/it's/clip.mp4?... is gone"),
        (f"https://h/p?name='x'&s={SECRET}", "https://h/p?..."),
        (f"https://a?s={SECRET},https://b?s={SECRET}", "https://a?..."),
        (f"storage.h/clip.mp4?X-Amz-Signature={SECRET}", "storage.h/clip.mp4?..."),
        (f"GET /clip.mp4?s={SECRET} failed", "GET /clip.mp4?... failed"),
        (f"https:\\/\\/h\\/p?s={SECRET}", "https:\\/\\/h\\/p?..."),
        (f"ht\u200btps:/\u200b/h/p\u00ad?{SECRET}", "https://h/p?..."),
        ("did you mean 'limit'? a=b", "did you mean 'limit'? a=b"),
        ("Copy https://h/clip.mp4 whole.", "Copy https://h/clip.mp4 whole."),
    ],
)
def test_a_url_is_named_without_what_signs_it(text: str, shown: str) -> None:
    assert safe(text, 600) == shown


def test_a_url_that_is_cut_off_shows_nothing_of_its_query() -> None:
    text = "x" * 90 + f" https://h/p?s={SECRET * 1000}"
    for limit in range(80, 130):
        assert SECRET[:4] not in safe(text, limit)


def test_a_long_text_of_marks_takes_no_long_time() -> None:
    for text in ("?" * 300_000, "a://" * 100_000, "?a=" + "'" * 300_000, "x@" * 200_000, "a" * 400_000):
        without_queries(text)


def test_the_nearest_known_word_is_suggested_in_its_own_spelling() -> None:
    known = ("SYNC_MCP_SANDBOX", "SYNC_MCP_LOG_LEVEL")
    assert near("sync_mcp_sandbx", known) == "; did you mean 'SYNC_MCP_SANDBOX'?"
    assert near("banana", known) == "."
    assert near("banana", ()) == "."


def test_a_word_that_is_the_beginning_of_one_means_it_and_two_that_are_as_like_are_both_named() -> None:
    known = ("lipsync-2", "sync-3", "lipsync-1.9.0-beta", "lipsync-2-pro")
    assert near("lipsync-1.9", known) == "; did you mean 'lipsync-1.9.0-beta'?"
    assert near("lipsync-3", known) == "; did you mean 'lipsync-2' or 'sync-3'?"
    assert near("lipsync2", known) == "; did you mean 'lipsync-2'?"


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        *((f"{first}/a b.mp4{last}", "/a b.mp4") for first, last in ('""', "''", "``", "<>", "\u201c\u201d")),
        *((text, "/a.mp4") for text in ("  /a.mp4\n", "```/a.mp4```", "[a](/a.mp4)", "![a](</a.mp4>)")),
        *((text, text) for text in ("a", "", "``", '"', "'a' and 'b'", "[a](b) and [c](d)", "/it's.mp4'")),
        ("[a](/b (1).mp4)", "/b (1).mp4"),
        *((text, "/a.mp4") for text in ("**/a.mp4**", "**`/a.mp4`**")),
        *((text, text) for text in ("****", "**a** and **b**", "*/a.mp4*", "__a__.mp4")),
    ],
)
def test_what_stands_around_a_pasted_text_is_taken_off_and_nothing_inside(text: str, bare: str) -> None:
    assert unwrap(text) == bare


def test_how_long_an_id_or_a_reason_may_be_is_written_once() -> None:
    own = re.compile(r"^_(ID|REASON)_(LIMIT|SHOWN) = ", re.MULTILINE)
    root = Path(sync_mcp.__file__).parent
    paths = [path for room in ("api", "background", "cli", "errors") for path in (root / room).rglob("*.py")]
    assert [path.name for path in paths if own.search(path.read_text(encoding="utf-8"))] == []
