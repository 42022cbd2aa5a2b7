"""A camera's frame ids as numbers that only grow."""

# GigE Vision counts 1 to 65535 and then 1 again; 0 is no frame.
SHORT_IDS = 65535


def next_number(number: int, frame_id: int, short: bool) -> int:
    """Return the number of a frame from that of the frame before it.

    Args:
        number: of the frame before; 0 for none.
        frame_id: as the camera sent it; of short ids not 0.
        short: the camera counts in 16 bits; otherwise its ids are numbers already.

    Returns:
        Of short ids the smallest number not below ``number`` that stands for this id: each lost
        frame leaves its gap, and a repeated id repeats its number.
    """
    if not short:
        return frame_id
    if number == 0:
        return frame_id
    return number + (frame_id - number) % SHORT_IDS
