"""Camera and broker addresses without their secrets: what messages and logs may show."""

import re

_USER_INFO = re.compile(r"(?<=://)[^/?#]*@")
_SECRET_QUERY = re.compile(
    r"(?i)(?<=[?&])((?:user|usr|login|pass|pwd|token|auth|key|secret|sig)[^=&]*)=[^&#]*"
)


def redacted(uri: str) -> str:
    """Return the address with credentials replaced by ``***``; everything else stays."""
    return _SECRET_QUERY.sub(r"\1=***", _USER_INFO.sub("***@", uri))
