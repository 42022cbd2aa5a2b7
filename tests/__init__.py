"""The tests, with an import less: no schema here asks for the format of an address."""

import sys
from types import ModuleType
from typing import cast

# jsonschema would compile the grammar of RFC 3987 for it, three seconds in every process.
sys.modules.setdefault("rfc3987_syntax", cast(ModuleType, None))
