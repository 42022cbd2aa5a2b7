"""What messages and logs may show: no secrets, and no character that steers a terminal."""

import re
import unicodedata

# Up to the last @ where there is a colon before the path: a password may hold / ? # and @ that
# nobody wrote as %2F, and then the address is refused with a message that shows it.
_USER_INFO = re.compile(r"(?<=://)(?:[^/?#\s]*[:@]\S*@|[^/?#]*@)")
# Some cameras take the login as a part of the path: /user=admin_password=…
_SECRET_QUERY = re.compile(
    r"(?i)(?<=[?&/;_])((?:user|usr|login|pass|pwd|token|auth|key|secret|sig)[^=&/]*)=[^&#]*"
)


def redacted(uri: str) -> str:
    """Return the address with credentials replaced by ``***``; everything else stays."""
    return _SECRET_QUERY.sub(r"\1=***", _USER_INFO.sub("***@", uri))


_SURROGATE = re.compile("[\ud800-\udfff]")


def readable(text: str, in_json: bool = False) -> str:
    """Write what UTF-8 cannot carry as backslash escapes: ``\\xf6`` for a byte of a file's name.

    JSON, MQTT and SQLite refuse such a text, and OpenCV crashes over it.

    Args:
        in_json: within the text of a JSON document, where a backslash is doubled.
    """

    def escaped(found: re.Match[str]) -> str:
        code = ord(found[0])
        # Python keeps the bytes of a name that is no UTF-8 as U+DC80 to U+DCFF.
        escape = f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
        return f"\\{escape}" if in_json else escape

    return _SURROGATE.sub(escaped, text)


def one_line(text: str, keep: str = "") -> str:
    """Write control, bidi and separator characters as backslash escapes, so that none has effect.

    Line breaks are among them: a foreign name must not begin a line of its own. Spaces of other
    scripts stay.

    Args:
        keep: characters that stay.
    """
    if text.isprintable():
        return text
    return readable("".join(c if c in keep or _has_no_effect(c) else _escaped(c) for c in text))


def _has_no_effect(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    if _SURROGATE.match(character):
        return character  # a byte of a name, which ``readable`` shows as such
    return character.encode("unicode_escape").decode()
