import re

import pytest
from hypothesis import given, strategies as st

from sync_mcp import InvalidRequestError
from sync_mcp.api.languages import AUTO, LANGUAGES, find_language, language_code
from sync_mcp.sandbox.api import contract


def fault(text: str, *, source: bool = False) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        language_code(text, source=source)
    assert len(caught.value.faults) == 1
    return caught.value.message


def test_the_languages_are_those_of_the_api() -> None:
    assert LANGUAGES.keys() == contract.LANGUAGES
    assert len(set(LANGUAGES.values())) == len(LANGUAGES) == 93


@pytest.mark.parametrize("code", LANGUAGES)
def test_each_is_taken_by_its_code_and_by_its_english_name(code: str) -> None:
    for source in (False, True):
        assert language_code(code, source=source) == code
        assert language_code(LANGUAGES[code], source=source) == code


@pytest.mark.parametrize(
    "text", ["Spanish", "spanish", "SPANISH", "ES", " es ", "es", "\tSpanish\n", "es\u200b", "Español"]
)
def test_whatever_the_spelling_it_is_one_code(text: str) -> None:
    assert language_code(text, source=False) == "es"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *(
            ("Mandarin", "zh"),
            ("farsi", "fa"),
            ("Northern_Sotho", "nso"),
            ("deutsch", "de"),
            ("日本語", "ja"),
        ),
        *(("nb", "no"), ("Bokmal", "no"), ("Norwegian Bokmål", "no"), ("Norwegian", "no"), ("Flemish", "nl")),
        *(("iw", "he"), ("Myanmar", "my"), ("Moldovan", "ro")),
    ],
)
def test_other_names_for_the_same_language_are_taken_too(name: str, code: str) -> None:
    assert language_code(name, source=False) == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Spansh", "es"),
        ("Brazilian Portuguese", "pt"),
        ("Chinese (Simplified)", "zh"),
        ("nn", "no"),
        ("Nynorsk", "no"),
        ("Norwegian Nynorsk", "no"),
        ("Frnch", "fr"),
        ("Germn", "de"),
        ("Japanes", "ja"),
        ("Itallian", "it"),
        ("Phillipino", "fil"),
        ("es-MX", "es"),
        ("zh_Hans", "zh"),
        ("jp", "ja"),
        ("ger", "de"),
        ("deu", "de"),
        ("Portugese", "pt"),
    ],
)
def test_a_wrong_one_is_refused_with_the_near_one(text: str, code: str) -> None:
    told = f"dub.target_lang '{text}' is no language that the API dubs; did you mean '{code}'"
    assert fault(text) == f"{told} ({LANGUAGES[code]})?"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Klingon",
            "xx",
            "?",
            "ge",
            "Serbian",
            "Latin",
            "Haitian",
            "Valencian",
            "Gaelic",
            "Indian",
            "Frisian",
        ),
        *("Esperanto", "Kurdish", "Somali", "Turkmen", "Malagasy", "Guarani", "Taiwanese", "American"),
        *("la", "si", "so", "ti", "wa", "lat", "sin"),
    ],
)
def test_where_none_is_near_all_codes_are_named(text: str) -> None:
    told = fault(text)
    assert "did you mean" not in told
    assert all(re.search(rf"\b{code}\b", told) for code in LANGUAGES)


def test_the_language_of_the_video_may_be_found_out_and_that_of_the_dub_may_not() -> None:
    assert language_code(" Auto ", source=True) == AUTO
    assert fault("auto") == "dub.target_lang cannot be auto: name the language to dub into."
    assert fault("Spansh", source=True).startswith("dub.source_lang 'Spansh'")
    assert fault(" ") == "dub.target_lang is empty: give a language code, such as es."


@given(st.text())
def test_any_text_is_a_language_or_a_clean_sentence(text: str) -> None:
    code = find_language(text)
    if code is None:
        told = fault(text)
        assert told.isprintable()
        assert len(told) <= 600
    else:
        assert language_code(text, source=False) == code in LANGUAGES


def test_a_long_text_is_refused_shortly() -> None:
    assert len(fault("Spanish and then " * 10_000)) < 200
