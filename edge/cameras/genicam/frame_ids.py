"""A camera's frame ids as numbers that only grow."""

# GigE Vision counts 1 to 65535 and then 1 again; 0 is no frame. USB3 Vision begins with 0.
SHORT_IDS = 65535


def next_number(number: int | None, frame_id: int, short: bool) -> int:
    """Return the number of a frame from that of the frame before it.

    Args:
        number: of the frame before; None for none.
        frame_id: as the camera sent it; 0 where it was lost with the first packet.
        short: the camera counts in 16 bits; otherwise its ids are numbers already.

    Returns:
        Of short ids the smallest number not below ``number`` that stands for the id, so a lost
        frame leaves its gap and a repeated id its number. Without an id the next number: the
        true one is no smaller, and if it is larger, the gap shows at the frame that follows.
    """
    if number is None:  # of long ids 0 may be the first
        return frame_id or int(short)
    if frame_id == 0:
        return number + 1
    if not short:
        return frame_id
    return number + (frame_id - number) % SHORT_IDS
