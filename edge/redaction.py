"""Camera and broker addresses without their secrets: what messages and logs may show."""

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
