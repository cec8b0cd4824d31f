"""Whole data messages, pings and pongs, framed and unframed directly (RFC 6455 section 5.2).

Nearly all traffic of a session is data messages of one frame. They are handled here, in a fraction
of the time that a general frame parser takes. Pings and pongs are few, unless a hostile peer fills
the connection with them: 64 KiB of empty ones would keep a general parser busy for seconds.
Everything else (close frames, fragments, extensions, malformed frames) is left to wsproto. That is
why nothing here reports an error but one: whenever a frame is not exactly as expected, it is passed
on, and wsproto finds what is wrong with it. (The exception is text that is not UTF-8.)

A frame, as in RFC 6455 section 5.2:

- First byte: the bit FIN, three bits reserved for extensions, and the opcode. All of it is compared
  at once, so a fragment or a compressed frame never looks like a plain one.
- Second byte: the bit MASK, and the size if it is below 126. 126 says that the size follows in two
  bytes, 127 in eight.
- Four bytes of key, if MASK is set, then the payload, XORed with the repeated key. Clients must
  mask and servers must not (section 5.1).

Masking is the only work done for each byte, so it is what large chunks of audio cost. It is done in
C if `websockets` is installed, and otherwise with the fastest means that Python has.
"""

from __future__ import annotations

import os
from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from struct import Struct
from typing import Final

__all__ = ["LARGE_MESSAGE", "FrameReader", "FrameWriter", "apply_mask_in_python"]

TEXT_FRAME: Final = 0x81
"""First byte of a final, unextended text frame."""
BINARY_FRAME: Final = 0x82
"""First byte of a final, unextended binary frame."""

PING_FRAME: Final = 0x89
"""First byte of a ping."""
PONG_FRAME: Final = 0x8A
"""First byte of a pong."""

# Parts of the first two bytes of a frame.
_PING_OR_PONG = (PING_FRAME, PONG_FRAME)
_BINARY_ALONE = (BINARY_FRAME,)
_TEXT_OR_BINARY = (TEXT_FRAME, BINARY_FRAME)
_FINAL = 0x80
_OPCODE = 0x0F
_FIRST_CONTROL_OPCODE = 0x8
_MASKED = 0x80
_LENGTH = 0x7F
_SIXTEEN_BITS = 126
_SIXTY_FOUR_BITS = 127

_pack_short = Struct("!BB").pack
_pack_medium = Struct("!BBH").pack
_pack_long = Struct("!BBQ").pack
_split_keys = Struct("4s").iter_unpack
_utf8_decoder: Callable[[], IncrementalDecoder] = getincrementaldecoder("utf-8")

LARGE_MESSAGE: Final = 128 * 1024
"""Size in bytes from which writing a message in parts is faster than joining the parts."""

INTEGER_MASKING_LIMIT: Final = 1536
"""Size in bytes up to which XOR of one large integer is faster than four calls of `translate`."""

KEYS_IN_POOL: Final = 64
"""Masking keys fetched from the operating system at once. A system call for each frame would cost
as much as framing it.

Each key is used once and comes from a strong source of randomness, because it must not be
predictable by the provider of the payload (RFC 6455 section 5.3). Otherwise a client could be made
to send chosen bytes, which a proxy on the way might take for a request."""


def apply_mask_in_python(data: bytes, key: bytes) -> bytes:
    """Return `data` masked, or unmasked, with a key of four bytes (RFC 6455 section 5.3).

    Short data is XORed as one large integer. Longer data is translated, with a table for each byte
    of the key, which is faster for each byte but takes longer to start.
    """
    size = len(data)
    if size <= INTEGER_MASKING_LIMIT:
        words = (size + 3) // 4
        keys = _ones(words) * int.from_bytes(key, "little")
        masked = int.from_bytes(data, "little") ^ keys
        return masked.to_bytes(4 * words, "little")[:size]
    output = bytearray(data)
    for position, value in enumerate(key):
        output[position::4] = output[position::4].translate(_xor_table(value))
    return bytes(output)


@lru_cache(maxsize=16)
def _ones(words: int) -> int:
    """Return an integer made of `words` 32-bit ones.

    Multiplying it by a key repeats the key in every word.
    """
    return int.from_bytes(b"\1\0\0\0" * words, "little")


@cache
def _xor_table(key: int) -> bytes:
    return bytes(value ^ key for value in range(256))


@cache
def best_mask() -> Callable[[bytes, bytes], bytes]:
    """Return the fastest masking function available: the C one of websockets, if installed."""
    try:
        from websockets.speedups import apply_mask
    except ImportError:
        return apply_mask_in_python
    return apply_mask


class FrameWriter:
    """Frames whole messages, masked for a client.

    Every message becomes one final frame. Nothing obliges an endpoint to fragment (RFC 6455 section
    5.4), and chunks of audio are small.
    """

    __slots__ = ("_first_byte", "_header", "_keys", "_mask", "_size")

    def __init__(self, *, masked: bool) -> None:
        self._mask = best_mask() if masked else None
        self._keys: Iterator[tuple[bytes]] = iter(())
        # The latest header is kept, because chunks of audio usually have the same size.
        self._first_byte = self._size = -1
        self._header = b""

    def frame(self, first_byte: int, payload: bytes) -> bytes:
        """Return `payload` as one frame."""
        size = len(payload)
        if size != self._size or first_byte != self._first_byte:
            self._make_header(first_byte, size)
        mask = self._mask
        if mask is None:
            return self._header + payload
        # This loop runs once if there is a key left, and otherwise not at all.
        for (key,) in self._keys:
            return b"".join((self._header, key, mask(payload, key)))
        self._draw_keys()
        return self.frame(first_byte, payload)

    def frame_in_parts(self, first_byte: int, payload: bytes) -> tuple[bytes, bytes]:
        """Return `payload` as one frame in two parts, so that nothing but masking copies it."""
        self._make_header(first_byte, len(payload))
        mask = self._mask
        if mask is None:
            return self._header, payload
        for (key,) in self._keys:
            return self._header + key, mask(payload, key)
        self._draw_keys()
        return self.frame_in_parts(first_byte, payload)

    def _draw_keys(self) -> None:
        self._keys = _split_keys(os.urandom(4 * KEYS_IN_POOL))

    def _make_header(self, first_byte: int, size: int) -> None:
        bit = 0 if self._mask is None else _MASKED
        if size < _SIXTEEN_BITS:
            self._header = _pack_short(first_byte, bit | size)
        elif size < 65536:
            self._header = _pack_medium(first_byte, bit | _SIXTEEN_BITS, size)
        else:
            self._header = _pack_long(first_byte, bit | _SIXTY_FOUR_BITS, size)
        self._first_byte, self._size = first_byte, size


class FrameReader:
    """Splits what a peer sends into whole messages and the frames that wsproto has to parse.

    It never changes its mind about a frame: whether a frame is read here or passed on is decided
    when its header is complete. A frame that is passed on goes to wsproto from its first byte to
    its last, and nothing else does, so wsproto sees a valid stream with some frames left out. Only
    between the fragments of a message must no data frame be left out, since it would be an error
    there that wsproto has to see.

    Args:
        masked: Whether the peer must mask its frames, because it is a client.
        max_message_size: Size of the largest message read directly, in bytes. A larger one is
            passed on, and refused on the other way.
    """

    __slots__ = (
        "_data",
        "_decoder",
        "_delegated",
        "_delegated_header",
        "_delegated_left",
        "_direct",
        "_fragmented",
        "_key",
        "_left",
        "_mask_bit",
        "_max_message_size",
        "_parts",
        "_position",
        "invalid_text",
        "stopped",
    )

    def __init__(self, *, masked: bool, max_message_size: int) -> None:
        self._mask_bit = _MASKED if masked else 0
        # Clients send little text, so unmasking it piece by piece would not be worth the code.
        self._direct = _BINARY_ALONE if masked else _TEXT_OR_BINARY
        self._max_message_size = max_message_size
        # Unread bytes: they begin with a frame for wsproto, or with an incomplete header.
        self._data: bytes = b""
        self._position = 0
        self.stopped = False
        """Whether `read` stopped at a frame that somebody else has to take."""
        self.invalid_text = False
        """Whether reading is over, because text is not UTF-8."""
        # Within a frame that is read directly: bytes still to come, and those received so far.
        self._left = 0
        self._parts = bytearray()
        self._decoder: IncrementalDecoder | None = None
        self._key = b""
        # Within a frame for wsproto: its header so far, then the bytes still to come.
        self._delegated = False
        self._delegated_header = bytearray()
        self._delegated_left = 0
        # Between the fragments of a message, data frames belong to wsproto.
        self._fragmented = False

    @property
    def between_frames(self) -> bool:
        """Whether everything read so far was whole messages and control frames."""
        return not (
            self._data or self._left or self._delegated or self._fragmented or self.invalid_text
        )

    def read(self, data: bytes = b"") -> list[str | bytes]:
        """Take bytes and return the whole messages up to the first frame of another kind.

        If `stopped` is set afterwards, there is such a frame. Either it is text that is not UTF-8
        (`invalid_text`), and reading is over, or it is for `read_control` or `read_delegated`.
        Take it there, then call this again.
        """
        if data:
            if self._data:
                data = self._data[self._position :] + data
            self._data, self._position = data, 0
        messages: list[str | bytes] = []
        direct, mask_bit = self._direct, self._mask_bit
        data, position = self._data, self._position
        end = len(data)
        try:
            if self._left:
                position = min(end, self._left)
                message = self._continue(data[:position])
                if message is not None:
                    messages.append(message)
            # Without a call for each frame, since this runs for every message.
            while end - position >= 2 and not self._delegated:
                first, size = data[position], data[position + 1]
                if first not in direct or self._fragmented:
                    self._delegated = True
                    break
                start = position + 2
                if size >= _SIXTEEN_BITS or mask_bit:
                    start, size = self._payload(data, position, size)
                    if start > end:
                        break
                if not 0 <= size <= self._max_message_size:
                    self._delegated = True
                    break
                stop = start + size
                if stop > end:
                    # Collected in a buffer of its own. Keeping it in `data` would copy it again
                    # with every further read.
                    self._begin(first, data[start:end], stop - end, data[start - 4 : start])
                    position = end
                    break
                payload = data[start:stop]
                if mask_bit:
                    messages.append(best_mask()(payload, data[start - 4 : start]))
                else:
                    messages.append(payload.decode() if first == TEXT_FRAME else payload)
                position = stop
            self.stopped = self._delegated and position < end
            if self.stopped:
                self._position = position
            else:
                self._data, self._position = data[position:], 0
        except UnicodeDecodeError:
            self.stopped = self.invalid_text = True
        return messages

    def read_control(self) -> tuple[int, bytes] | None:
        """Return the ping or pong at which `read` stopped, as its first byte and payload.

        Return None if it is something else or is not complete; then call `read_delegated`.
        """
        data, start = self._data, self._position
        if self._delegated_left or self._delegated_header or len(data) - start < 2:
            return None
        first, size = data[start], data[start + 1]
        # RFC 6455 section 5.5: a control frame has at most 125 bytes of payload.
        if first not in _PING_OR_PONG or size & _LENGTH >= _SIXTEEN_BITS:
            return None
        start, size = self._payload(data, start, size)
        stop = start + size
        if size < 0 or stop > len(data):
            return None
        payload = data[start:stop]
        if self._mask_bit:
            payload = best_mask()(payload, data[start - 4 : start])
        self._position = stop
        self._delegated = False
        return first, payload

    def read_delegated(self) -> memoryview:
        """Return the bytes for wsproto at which `read` stopped: a frame, or as much as arrived."""
        start = self._position
        self._position = self._delegated_stop(self._data, start, len(self._data))
        return memoryview(self._data)[start : self._position]

    def _payload(self, data: bytes, position: int, second: int) -> tuple[int, int]:
        """Return where the payload starts, and its size, or -1 for a frame that wsproto refuses.

        If the start lies beyond the end of `data`, the header is incomplete and the size
        meaningless.
        """
        start = position + 2
        if second & _MASKED != self._mask_bit:
            return start, -1
        size = second & _LENGTH
        smallest = 0
        if size >= _SIXTEEN_BITS:
            # RFC 6455 section 5.2: the minimal number of bytes must be used.
            smallest, width = (126, 2) if size == _SIXTEEN_BITS else (65536, 8)
            start += width
            size = int.from_bytes(data[position + 2 : start], "big")
        if self._mask_bit:
            start += 4
        return start, size if size >= smallest else -1

    def _begin(self, first: int, piece: bytes, left: int, key: bytes) -> None:
        """Begin a message of which only `piece` has arrived."""
        self._left = left
        self._key = key
        self._parts = bytearray(piece)
        self._decoder = None
        if first == TEXT_FRAME:
            # Decoding is only a check, so that bad text fails as early as it does in wsproto.
            # The decoded pieces are not kept: they could take four times the memory.
            self._decoder = _utf8_decoder()
            self._decoder.decode(piece)

    def _continue(self, piece: bytes) -> str | bytes | None:
        """Take more of a message; return it once it is whole."""
        self._left -= len(piece)
        self._parts += piece
        if self._decoder is not None:
            self._decoder.decode(piece, not self._left)
        if self._left:
            return None
        payload, self._parts = bytes(self._parts), bytearray()
        if self._mask_bit:
            return best_mask()(payload, self._key)
        return payload if self._decoder is None else payload.decode()

    def _delegated_stop(self, data: bytes, position: int, end: int) -> int:
        """Return where the current frame for wsproto ends in `data`.

        Only the header has to be understood for that. It is collected byte by byte, because it may
        arrive in pieces that have been passed on already.
        """
        header = self._delegated_header
        while not self._delegated_left and position < end:
            header.append(data[position])
            position += 1
            if len(header) < 2:
                continue
            size = header[1] & _LENGTH
            width = {_SIXTEEN_BITS: 2, _SIXTY_FOUR_BITS: 8}.get(size, 0)
            if len(header) < 2 + width:
                continue
            if width:
                size = int.from_bytes(header[2:], "big")
            self._delegated_left = size + (4 if header[1] & _MASKED else 0)
            # Control frames may stand between fragments and change nothing about them (RFC 6455
            # section 5.4).
            if header[0] & _OPCODE < _FIRST_CONTROL_OPCODE:
                self._fragmented = not header[0] & _FINAL
            header.clear()
            if not self._delegated_left:
                self._delegated = False
                return position
        stop = min(end, position + self._delegated_left)
        self._delegated_left -= stop - position
        if not self._delegated_left and not header:
            self._delegated = False
        return stop
