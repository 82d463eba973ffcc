"""The languages of a dub (API §3.1.4): their codes, and the English names by which people call them."""

import re
from collections.abc import Mapping
from difflib import get_close_matches

from sync_mcp.errors import InvalidRequestError
from sync_mcp.texts import clean, fold_words

AUTO = "auto"
"""As `source_lang`: the API finds it out by itself, as where it is left out."""

LANGUAGES: Mapping[str, str] = {
    "af": "Afrikaans",
    "ak": "Akan",
    "am": "Amharic",
    "ar": "Arabic",
    "as": "Assamese",
    "az": "Azerbaijani",
    "be": "Belarusian",
    "bg": "Bulgarian",
    "bo": "Tibetan",
    "bs": "Bosnian",
    "ca": "Catalan",
    "ceb": "Cebuano",
    "cs": "Czech",
    "cy": "Welsh",
    "da": "Danish",
    "de": "German",
    "doi": "Dogri",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "et": "Estonian",
    "eu": "Basque",
    "fa": "Persian",
    "fi": "Finnish",
    "fil": "Filipino",
    "fr": "French",
    "gl": "Galician",
    "gu": "Gujarati",
    "ha": "Hausa",
    "he": "Hebrew",
    "hi": "Hindi",
    "hr": "Croatian",
    "hu": "Hungarian",
    "hy": "Armenian",
    "id": "Indonesian",
    "is": "Icelandic",
    "it": "Italian",
    "ja": "Japanese",
    "jv": "Javanese",
    "ka": "Georgian",
    "ki": "Kikuyu",
    "kk": "Kazakh",
    "kn": "Kannada",
    "ko": "Korean",
    "ky": "Kyrgyz",
    "lg": "Luganda",
    "lt": "Lithuanian",
    "lv": "Latvian",
    "mk": "Macedonian",
    "ml": "Malayalam",
    "mn": "Mongolian",
    "mr": "Marathi",
    "ms": "Malay",
    "my": "Burmese",
    "ne": "Nepali",
    "nl": "Dutch",
    "no": "Norwegian",
    "nso": "Northern Sotho",
    "pa": "Punjabi",
    "pl": "Polish",
    "pt": "Portuguese",
    "rn": "Kirundi",
    "ro": "Romanian",
    "ru": "Russian",
    "rw": "Kinyarwanda",
    "sd": "Sindhi",
    "sk": "Slovak",
    "sl": "Slovenian",
    "sq": "Albanian",
    "ss": "Swati",
    "st": "Sesotho",
    "su": "Sundanese",
    "sv": "Swedish",
    "sw": "Swahili",
    "ta": "Tamil",
    "te": "Telugu",
    "tg": "Tajik",
    "th": "Thai",
    "tl": "Tagalog",
    "tn": "Tswana",
    "tr": "Turkish",
    "ts": "Tsonga",
    "ug": "Uyghur",
    "uk": "Ukrainian",
    "ur": "Urdu",
    "uz": "Uzbek",
    "ve": "Venda",
    "vi": "Vietnamese",
    "war": "Waray",
    "wo": "Wolof",
    "yo": "Yoruba",
    "zh": "Chinese",
    "zu": "Zulu",
}
"""Each code with the language's English name."""

TELL_LANGUAGES = f": give one of {' '.join(LANGUAGES)}."
"""What is done about a language that is like none of them."""

_OTHER_NAMES: Mapping[str, str] = {
    "Azeri": "az",
    "Bahasa Indonesia": "id",
    "Bokmål": "no",
    "Castilian": "es",
    "Dansk": "da",
    "Deutsch": "de",
    "Español": "es",
    "Farsi": "fa",
    "Flemish": "nl",
    "Français": "fr",
    "Ganda": "lg",
    "Iranian": "fa",
    "Italiano": "it",
    "Kirghiz": "ky",
    "Kiswahili": "sw",
    "Mandarin": "zh",
    "Mandarin Chinese": "zh",
    "Moldovan": "ro",
    "Myanmar": "my",
    "Nederlands": "nl",
    "Norsk": "no",
    "Norwegian Bokmål": "no",
    "Panjabi": "pa",
    "Pilipino": "fil",
    "Polski": "pl",
    "Português": "pt",
    "Rundi": "rn",
    "Sepedi": "nso",
    "Setswana": "tn",
    "Slovene": "sl",
    "Southern Sotho": "st",
    "Suomi": "fi",
    "Svenska": "sv",
    "Swazi": "ss",
    "Türkçe": "tr",
    "Twi": "ak",
    "Uighur": "ug",
    "Русский": "ru",
    "Українська": "uk",
    "العربية": "ar",
    "हिन्दी": "hi",
    "中文": "zh",
    "日本語": "ja",
    "한국어": "ko",
    # Other codes for the same.
    "iw": "he",
    "nb": "no",
}
# Codes of countries, of another standard and of kin that are taken for those of the API.
_OTHER_CODES: Mapping[str, str] = {
    "br": "pt",
    "ces": "cs",
    "cn": "zh",
    "cz": "cs",
    "deu": "de",
    "dk": "da",
    "ell": "el",
    "fra": "fr",
    "gr": "el",
    "jp": "ja",
    "jpn": "ja",
    "kr": "ko",
    "mx": "es",
    "nld": "nl",
    "nn": "no",
    "nynorsk": "no",
    "se": "sv",
    "ua": "uk",
    "vn": "vi",
    "zho": "zh",
}
# What is no misspelling, but a language or a code of one that the API does not dub.
_NOT_DUBBED = frozenset({"guarani", "hinglish", "lat", "latin", "sin"})
_CODE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")
_TEXT_LIMIT = 80
_SHOWN = 40
_LIKE_ENOUGH = 0.8
_LEAST_LETTERS = 3

_NAMES: Mapping[str, str] = {
    fold_words(name, _TEXT_LIMIT): code
    for name, code in (*((name, code) for code, name in LANGUAGES.items()), *_OTHER_NAMES.items())
}


def language_code(text: str, *, source: bool) -> str:
    """Return the code of a language of the API's, which is given by its code or its name.

    `source` says that it is the language that a video is spoken in, which may also be `auto`.

    Raises:
        InvalidRequestError: it is none that is known here; the sentence names the near one.
    """
    if source and fold_words(text, _TEXT_LIMIT) == AUTO:
        return AUTO
    code = find_language(text)
    if code is None:
        raise InvalidRequestError(_sentence(text, "no language that the API dubs", source=source))
    return code


def find_language(text: str) -> str | None:
    """Return the code of the language that `text` is the code or the name of, or None."""
    name = fold_words(text, _TEXT_LIMIT)
    return name if name in LANGUAGES else _NAMES.get(name)


def language_fault(text: str, *, source: bool) -> str | None:
    """Return what is wrong with a language as the API is to be told it, which is by code.

    A code that is not known here passes: the API may know it by now.
    """
    if _CODE.fullmatch(text) or (source and text == AUTO):
        return None
    return _sentence(text, "no language code", source=source)


def _sentence(text: str, kind: str, *, source: bool) -> str:
    place = "dub.source_lang" if source else "dub.target_lang"
    if not text.strip():
        return f"{place} is empty: give a language code, such as es."
    name = fold_words(text, _TEXT_LIMIT)
    if name == AUTO and not source:
        return f"{place} cannot be auto: name the language to dub into."
    code = find_language(text) or _nearest(name)
    end = f"; did you mean {code!r} ({LANGUAGES[code]})?" if code else TELL_LANGUAGES
    return f"{place} {clean(text, _SHOWN)!r} is {kind}{end}"


def _nearest(name: str) -> str | None:
    words = name.split()
    # Brazilian Portuguese, English (UK).
    inside = [known for known in _NAMES if f" {known} " in f" {name} "]
    if inside:
        return _NAMES[max(inside, key=len)]
    # es-MX, zh-Hans.
    if words and words[0] in LANGUAGES:
        return words[0]
    if name in _OTHER_CODES:
        return _OTHER_CODES[name]
    if name in _NOT_DUBBED or len(name) < _LEAST_LETTERS:
        return None
    begun = {code for known, code in _NAMES.items() if known.startswith(name)}
    if len(begun) == 1:
        return begun.pop()
    like = get_close_matches(name, _NAMES, n=1, cutoff=_LIKE_ENOUGH)
    return _NAMES[like[0]] if like else None
