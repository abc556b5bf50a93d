# SPDX-License-Identifier: Apache-2.0
"""Decompresses a body in pieces of bounded size, and notices where it is cut off."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

PLAIN = frozenset({"", "identity", "aws-chunked"})
"""Content codings that leave the bytes as they are; S3 keeps ``aws-chunked`` from an upload, already decoded."""

COMPRESSED = frozenset({"gzip", "x-gzip", "deflate"})
"""Content codings that :func:`decompressed` understands."""

_PIECE_BYTES = 65_536
_EITHER_FORMAT = 32 + zlib.MAX_WBITS


def decompressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """
    Yield the content of a gzip or zlib stream, or of several in a row.

    :param chunks: the compressed bytes
    :raises EOFError: if the stream is cut off
    :raises zlib.error: if it is invalid
    """
    stream = zlib.decompressobj(_EITHER_FORMAT)
    for chunk in chunks:
        left = chunk
        while left:
            if stream.eof:
                stream = zlib.decompressobj(_EITHER_FORMAT)
            yield stream.decompress(left, _PIECE_BYTES)
            left = stream.unconsumed_tail or stream.unused_data
    yield stream.flush()
    if not stream.eof:
        raise EOFError
