"""Cameras that can be told apart: short films of one colour each, for Chromium's fake camera to play."""

from pathlib import Path

WIDTH, HEIGHT, FRAMES = 320, 240, 60
_BAR = 40
_WHITE = (235, 128, 128)
COLOURS = {"red": (82, 90, 240), "green": (145, 54, 34), "blue": (41, 240, 110)}
"""Y, Cb, Cr as BT.601 has them."""


def film(folder: Path, colour: str) -> Path:
    """Write a film of a white bar that wanders over a coloured ground. Returns its file."""
    file = folder / f"{colour}.y4m"
    frames = [_frame(COLOURS[colour], number * (WIDTH - _BAR) // (FRAMES - 1)) for number in range(FRAMES)]
    file.write_bytes(b"YUV4MPEG2 W%d H%d F30:1 Ip A1:1 C420jpeg\n" % (WIDTH, HEIGHT) + b"".join(frames))
    return file


def _frame(ground: tuple[int, int, int], bar_at: int) -> bytes:
    """4:2:0: a plane of full size, and two of half the width and height."""
    planes = [
        _row(ground[plane], _WHITE[plane], bar_at // scale, scale) * (HEIGHT // scale)
        for plane, scale in enumerate((1, 2, 2))
    ]
    return b"FRAME\n" + b"".join(planes)


def _row(ground: int, bar: int, bar_at: int, scale: int) -> bytes:
    row = bytearray([ground]) * (WIDTH // scale)
    row[bar_at : bar_at + _BAR // scale] = bytes([bar]) * (_BAR // scale)
    return bytes(row)
