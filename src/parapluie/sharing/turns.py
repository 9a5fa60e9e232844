"""Turns that threads take, and news that they wait for, where an interrupt may come at any line."""

from __future__ import annotations

from time import monotonic

from parapluie.condition import Condition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class News:
    """Tells threads that wait to look again.

    Attributes: waiting: how many wait; where it is 0, there is nobody to `tell`.
    """

    def __init__(self) -> None:
        self._condition = Condition()
        self.waiting = 0  # guarded by _condition

    def tell(self) -> None:
        """Have those that wait look again."""
        if self.waiting:  # it counts itself before it looks, and is told afterwards
            with self._condition:
                self._condition.notify_all()

    def wait_for(self, condition: Callable[[], object], until: float | None) -> bool:
        """Wait for a condition, until a time of `time.monotonic`; say whether it holds."""
        with self._condition:
            self.waiting += 1
            try:
                while not condition():
                    left = None if until is None else until - monotonic()
                    if left is not None and left <= 0:
                        return False
                    self._condition.wait(left)
            finally:
                self.waiting -= 1
        return True


class Turn:
    """What one thread has at a time. Taken with a token of one's own, and given back in `finally`, taken or not.

    An interrupt cannot leave it taken, as it can a lock between `acquire` and the `try` behind it.
    """

    def __init__(self, news: News) -> None:
        self._news = news
        self._holder: dict[int, object] = {}

    def take(self, token: object) -> bool:
        """Take it unless somebody else has it; say whether that worked."""
        return self._holder.setdefault(0, token) is token

    def is_free(self) -> bool:
        """Say whether nobody has it."""
        return not self._holder

    def wait_to_take(self, token: object, until: float | None = None) -> bool:
        """Take it when nobody else has it; False if the time is up."""
        while not self.take(token):
            if not self._news.wait_for(self.is_free, until):
                return False
        return True

    def give_back(self, token: object) -> None:
        """Let others have it."""
        if self._holder.get(0) is token:
            del self._holder[0]
            if self._news.waiting:
                self._news.tell()


class Flag:
    """Something that happens once, and is waited for: as `threading.Event`, which an interrupt can leave locked."""

    def __init__(self) -> None:
        self._news = News()
        self._is_set = False

    def set(self) -> None:
        """Note that it has happened."""
        self._is_set = True
        self._news.tell()

    def is_set(self) -> bool:
        """Say whether it has happened."""
        return self._is_set

    def wait(self, until: float | None = None) -> bool:
        """Wait for it, until a time of `time.monotonic`; say whether it has happened."""
        return self._is_set or self._news.wait_for(self.is_set, until)
