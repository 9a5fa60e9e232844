"""What a plugin that offers a serialiser describes it with."""

from __future__ import annotations

from typing import NamedTuple


class SerializerInfo(NamedTuple):
    """What a plugin registers: the description of a serialiser. Making one imports nothing.

    Attributes:
        name: what users write as `serializer=`.
        summary: one line.
        path: where its function is, as `"package.module:function"`; imported only when the serialiser is chosen. It
            is called as `dumps(value, buffer_callback)` and returns bytes that `pickle.loads` reads back in the
            worker. Each buffer that it would rather keep out of band (pickle protocol 5) it passes to
            `buffer_callback`, in order; it may ignore the callback, which may be None: then all is in band.
    """

    name: str
    summary: str
    path: str
