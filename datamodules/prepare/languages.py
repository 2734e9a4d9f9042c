"""Names of folders that are languages: their English names and ISO 639 codes, with or without a region (``en-GB``)."""

from __future__ import annotations

_NAMES = (
    "afrikaans|albanian|amharic|arabic|armenian|azerbaijani|bangla|basque|bengali|bosnian|bulgarian|burmese|"
    "cantonese|catalan|chinese|croatian|czech|danish|dutch|english|estonian|farsi|finnish|french|galician|"
    "georgian|german|greek|gujarati|hausa|hebrew|hindi|hungarian|icelandic|igbo|indonesian|irish|italian|"
    "japanese|javanese|kannada|kashmiri|kazakh|khmer|korean|kurdish|lao|latvian|lithuanian|macedonian|malay|"
    "malayalam|maltese|mandarin|marathi|mongolian|nepali|norwegian|odia|oriya|pashto|persian|polish|"
    "portuguese|punjabi|romanian|russian|serbian|sindhi|sinhala|slovak|slovenian|somali|spanish|swahili|"
    "swedish|tagalog|tamil|telugu|thai|tibetan|turkish|ukrainian|urdu|uyghur|uzbek|vietnamese|welsh|xhosa|"
    "yoruba|zulu|af|am|ar|az|be|bg|bn|bs|ca|cs|cy|da|de|el|en|es|et|eu|fa|fi|fr|ga|gl|gu|ha|he|hi|hr|hu|hy|id|"
    "is|it|ja|ka|kk|km|kn|ko|ku|lo|lt|lv|mk|ml|mn|mr|ms|my|ne|nl|no|or|pa|pl|ps|pt|ro|ru|sd|si|sk|sl|so|sq|sr|"
    "sv|sw|ta|te|th|tl|tr|uk|ur|uz|vi|zh|zu"
)
LANGUAGE_FOLDER = f"(?:(?i:{_NAMES})(?:[-_][A-Za-z]{{2,4}})?)"
"""Regular expression of such a name."""
