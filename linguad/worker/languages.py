"""Language codes of engines that use three letters where the wire uses two (node-protocol 2.12)."""

from __future__ import annotations

from linguad.wire.language import normalize

_ISO_639_3 = {
    "afr": "af",
    "ara": "ar",
    "arg": "an",
    "ast": "ast",
    "bel": "be",
    "bre": "br",
    "bul": "bg",
    "cat": "ca",
    "cmn": "zh",
    "cym": "cy",
    "dan": "da",
    "deu": "de",
    "eng": "en",
    "epo": "eo",
    "eus": "eu",
    "fra": "fr",
    "gle": "ga",
    "glg": "gl",
    "hbs": "sh",
    "hin": "hi",
    "ind": "id",
    "isl": "is",
    "ita": "it",
    "kaz": "kk",
    "mkd": "mk",
    "mlt": "mt",
    "msa": "ms",
    "nld": "nl",
    "nno": "nn",
    "nob": "nb",
    "oci": "oc",
    "pol": "pl",
    "por": "pt",
    "ron": "ro",
    "rus": "ru",
    "slv": "sl",
    "spa": "es",
    "srd": "sc",
    "swe": "sv",
    "tat": "tt",
    "ukr": "uk",
    "urd": "ur",
}


def from_iso_639_3(code: str) -> str:
    """The wire's code for a three-letter one; any other code is only normalised."""
    return _ISO_639_3.get(code.lower(), normalize(code))
