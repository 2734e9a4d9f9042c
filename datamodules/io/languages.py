"""Names of languages: their English names and ISO 639 codes, with or without a region (``en-GB``)."""

from __future__ import annotations

from datamodules.io.text import name_key

_TABLE = """
afrikaans af afr|albanian sq sqi alb|amharic am amh|arabic ar ara|armenian hy hye arm|azerbaijani az aze|
basque eu eus baq|belarusian be bel|bengali bangla bn ben|bosnian bs bos|bulgarian bg bul|burmese my mya bur|
cantonese yue|catalan ca cat|chinese zh zho chi|croatian hr hrv|czech cs ces cze|danish da dan|dutch nl nld dut|
english en eng|estonian et est|finnish fi fin|french fr fra fre|galician gl glg|georgian ka kat geo|german de deu ger|
greek el ell gre|gujarati gu guj|hausa ha hau|hebrew he heb|hindi hi hin|hungarian hu hun|icelandic is isl ice|
igbo ibo|indonesian id ind|irish ga gle|italian it ita|japanese ja jpn|javanese jav|kannada kn kan|kashmiri kas|
kazakh kk kaz|khmer km khm|korean ko kor|kurdish ku kur|lao lo|latvian lv lav|lithuanian lt lit|
macedonian mk mkd mac|malay ms msa may|malayalam ml mal|maltese mlt|mandarin cmn|marathi mr mar|mongolian mn mon|
nepali ne nep|norwegian no nor|odia oriya or ori|pashto ps pus|persian farsi fa fas per|polish pl pol|
portuguese pt por|punjabi pa pan|romanian ro ron rum|russian ru rus|serbian sr srp|sindhi sd snd|sinhala si sin|
slovak sk slk slo|slovenian sl slv|somali so som|spanish es spa|swahili sw swa|swedish sv swe|tagalog tl tgl|
tamil ta tam|telugu te tel|thai th tha|tibetan bod tib|turkish tr tur|ukrainian uk ukr|urdu ur urd|uyghur uig|
uzbek uz uzb|vietnamese vi vie|welsh cy cym wel|xhosa xho|yoruba yor|zulu zu zul
"""
_NATIVE = """
german deutsch|french français|spanish español castellano|italian italiano|portuguese português|dutch nederlands|
swedish svenska|danish dansk|norwegian norsk|finnish suomi|polish polski|czech čeština|turkish türkçe|russian русский|
ukrainian українська|greek ελληνικά|hungarian magyar|romanian română|arabic العربية عربي|persian فارسی|urdu اردو|
hindi हिन्दी हिंदी|bengali বাংলা|punjabi ਪੰਜਾਬੀ پنجابی|tamil தமிழ்|telugu తెలుగు|marathi मराठी|gujarati ગુજરાતી|
chinese 中文 汉语|japanese 日本語|korean 한국어|thai ไทย|hebrew עברית|pashto پښتو|sindhi سنڌي|
english englisch anglais inglés inglese انگریزی अंग्रेज़ी
"""
"""Names of languages in themselves, and of English in others, after the English ones."""
_ROWS = [row.split() for row in _TABLE.split("|")]
_KEYS = {name: row[0] for row in _ROWS for name in row}
_OTHERS = {name_key(name): first for first, *names in map(str.split, _NATIVE.split("|")) for name in names}
_OWN = [name for row in _NATIVE.split("|") for name in row.split()[1:]]
_FOLDERS = "|".join([*(name for name in _KEYS if len(name) != 3 or name == "lao"), *_OWN])
LANGUAGE_FOLDER = f"(?:(?i:{_FOLDERS})(?:[-_][A-Za-z]{{2,4}})?)"
"""Regular expression of such a name as that of a folder; codes of three letters are too often words."""


def language_key(name: str) -> str:
    """What spellings of a language have in common: its names and codes, in any case; else :func:`name_key`.

    ``en``, ``eng`` and ``ENGLISH`` are one language; ``en-US`` and ``en-GB`` are two, for whoever tells them apart.
    """
    key = name_key(name)
    base, *region = [known] if (known := _OTHERS.get(key)) else key.replace("-", " ").split(" ", 1)
    return " ".join([_KEYS.get(base, base), *region])


def may_be_same(one: str, other: str) -> bool:
    """Whether two names may be of one language: also ``English``, which says no region, and ``en-US``."""
    keys = sorted(map(language_key, (one, other)), key=len)
    base, _, region = keys[1].partition(" ")
    return keys[0] == keys[1] or (keys[0] == base and base in _KEYS and len(region) in (2, 3))
