"""WAV files made by hand, right and wrong."""

from __future__ import annotations

import struct

__all__ = ["chunk_of", "ds64_chunk", "extensible", "format_chunk", "riff"]


def chunk_of(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """Return a chunk, padded to an even length; `size` is what it claims."""
    header = name + struct.pack("<I", len(content) if size is None else size)
    return header + content + b"\0" * (len(content) % 2)


def format_chunk(
    codec: int = 1,
    channels: int = 1,
    sample_rate: int = 16_000,
    bits: int = 16,
    *,
    extension: bytes = b"",
    block_bytes: int | None = None,
    byte_rate: int | None = None,
) -> bytes:
    """Return a `fmt ` chunk."""
    block = channels * bits // 8 if block_bytes is None else block_bytes
    rate = sample_rate * block if byte_rate is None else byte_rate
    fields = (codec, channels, sample_rate, rate, block, bits)
    return chunk_of(b"fmt ", struct.pack("<HHIIHH", *fields) + extension)


def extensible(codec: int = 1) -> bytes:
    """Return the extension of a WAVE_FORMAT_EXTENSIBLE format."""
    guid = struct.pack("<H", codec) + bytes.fromhex("000000001000800000aa00389b71")
    return struct.pack("<HHI", 22, 16, 4) + guid


def ds64_chunk(data_bytes: int) -> bytes:
    """Return the chunk that holds the sizes of a file of more than 4 GiB."""
    return chunk_of(b"ds64", struct.pack("<QQQI", data_bytes + 100, data_bytes, 0, 0))


def riff(*chunks: bytes, signature: bytes = b"RIFF", size: int | None = None) -> bytes:
    """Return a file of chunks; `size` is what its header claims."""
    content = b"WAVE" + b"".join(chunks)
    return signature + struct.pack("<I", len(content) if size is None else size) + content
