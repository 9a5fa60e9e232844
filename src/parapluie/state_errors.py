"""The exceptions of what tasks share. Where they are in the tree is drawn in errors.py."""

from __future__ import annotations

from parapluie.errors import ParapluieError


class SharedStateError(ParapluieError, LookupError):
    """A shared object cannot be used: it is not there, or a wait for it would never end."""


class SharedStateLostError(ParapluieError, ConnectionError):
    """The server that holds the shared objects cannot be reached: it has ended, or its executor has."""


class ChannelClosedError(ParapluieError):
    """A channel takes no more items, or gives none any more. Attributes: channel (as messages call it), what."""

    def __init__(self, channel: str, what: str) -> None:
        self.channel, self.what = channel, what
        super().__init__(f"{channel} {what}")


class ChannelBrokenError(ParapluieError):
    """Nobody is left who could do what a user of a channel waits for. Attributes: channel, what."""

    def __init__(self, channel: str, what: str) -> None:
        self.channel, self.what = channel, what
        super().__init__(f"{channel} {what}")
