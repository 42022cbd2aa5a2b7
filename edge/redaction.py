"""What messages and logs may show: addresses without secrets, names that UTF-8 can carry."""

import re

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
