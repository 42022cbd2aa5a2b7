"""Whether the primary host is online, by what it publishes of itself."""

import json


class PrimaryHost:
    """Judges the STATE messages of one connection; pure.

    Attributes:
        online: the newest valid one said so.
    """

    def __init__(self) -> None:
        self.online = False
        self._newest_ms: int | None = None

    def judge(self, content: bytes) -> None:
        """Take a STATE message; one that is older than the newest, or none at all, says nothing.

        Source: tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp,
        tck-id-operational-behavior-edge-node-termination-host-offline-timestamp.
        """
        try:
            state = json.loads(content)
            online, at_ms = state["online"], state["timestamp"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if not isinstance(online, bool) or not isinstance(at_ms, int) or isinstance(at_ms, bool):
            return
        if self._newest_ms is not None and at_ms < self._newest_ms:
            return
        self._newest_ms = at_ms
        self.online = online
