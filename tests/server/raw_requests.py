"""Bytes that may be requests, but need not."""

from hypothesis import strategies as st

from tests.server.request_making import MAX_BYTES, Call


@st.composite
def altered(draw: st.DrawFn, packed: st.SearchStrategy[bytes]) -> bytes:
    """Draw bytes of a message and alter them in a few places."""
    content = bytearray(draw(packed))
    for _ in range(draw(st.integers(1, 4))):
        # Of a long message mostly what stands in front, where a byte may change everything.
        place = draw(st.integers(0, min(len(content), draw(st.sampled_from([8, 64, MAX_BYTES])))))
        new = draw(st.binary(max_size=4))
        removed = draw(st.integers(0, 4))
        content[place : place + removed] = new
    return bytes(content)


def raw_requests(call: Call) -> st.SearchStrategy[bytes]:
    """Draw bytes that may be a request of this call, but need not."""
    packed = call.requests.map(lambda request: request.SerializeToString())
    return st.one_of(
        altered(packed),
        altered(packed),
        st.binary(max_size=200),
        st.sampled_from(
            [
                b"\x0b" * 50_000,  # a group in a group in a group …
                b"\x0a\xff\xff\xff\xff\x0f",  # a field of 4 GB
                b"\x0a\x03\xed\xa0\x80",  # half of a surrogate pair
                b"\x80" * 1000,
                bytes(1000),
                bytes(MAX_BYTES),
                bytes(MAX_BYTES + 1),
            ]
        ),
    )
