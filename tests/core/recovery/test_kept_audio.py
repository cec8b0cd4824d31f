"""The audio that may have to be sent again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from soniox_proto.recovery.kept_audio import KeptAudio


@given(
    chunks=st.lists(st.integers(1, 40), max_size=20),
    drops=st.lists(st.integers(0, 400), max_size=20),
    frame=st.sampled_from([1, 2, 6]),
    limit=st.integers(1, 100),
)
def test_it_is_the_latest_part_of_the_stream(
    chunks: list[int], drops: list[int], frame: int, limit: int
) -> None:
    kept, stream = KeptAudio(limit, frame), b""
    for index, size in enumerate(chunks):
        chunk = bytes((len(stream) + at) % 251 for at in range(size))
        begins, full = kept.begins, kept.full
        kept.append(chunk)
        stream += chunk
        assert full or kept.begins == begins, "nothing is lost before it is full"
        assert kept.ends - kept.begins <= max(limit, frame) + size
        if index < len(drops):
            kept.drop_before(drops[index])
        assert kept.begins % frame == 0
        assert kept.ends == len(stream)
        assert kept.from_position(kept.begins, len(stream)) == stream[kept.begins :]
        middle = (kept.begins + kept.ends) // 2
        assert kept.from_position(middle, 7) == stream[middle : middle + 7]
