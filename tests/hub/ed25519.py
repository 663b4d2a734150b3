"""Ed25519 as RFC 8032 describes it, in plain Python: what the hub's signatures are compared with. Slow."""

from __future__ import annotations

import hashlib

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)

Point = tuple[int, int]


def add(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P)
    return x % P, y % P


def times(number: int, point: Point) -> Point:
    total: Point = (0, 1)
    while number:
        if number & 1:
            total = add(total, point)
        point, number = add(point, point), number >> 1
    return total


def x_of(y: int, odd: int) -> int:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT % P
    if x * x % P != square:
        raise ValueError("no point of the curve")
    return x if x & 1 == odd else P - x


BASE: Point = (x_of(4 * pow(5, -1, P) % P, 0), 4 * pow(5, -1, P) % P)


def packed(point: Point) -> bytes:
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def unpacked(data: bytes) -> Point:
    number = int.from_bytes(data, "little")
    y = number & (1 << 255) - 1
    return x_of(y, number >> 255), y


def digest(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % ORDER


def halves(secret: bytes) -> tuple[int, bytes]:
    hashed = hashlib.sha512(secret).digest()
    number = int.from_bytes(hashed[:32], "little") & (1 << 254) - 8 | 1 << 254
    return number, hashed[32:]


def public(secret: bytes) -> bytes:
    return packed(times(halves(secret)[0], BASE))


def sign(secret: bytes, message: bytes) -> bytes:
    number, prefix = halves(secret)
    nonce = digest(prefix, message)
    first = packed(times(nonce, BASE))
    second = (nonce + digest(first, public(secret), message) * number) % ORDER
    return first + second.to_bytes(32, "little")


def verifies(key: bytes, message: bytes, signature: bytes) -> bool:
    first, second = signature[:32], int.from_bytes(signature[32:], "little")
    if second >= ORDER:
        return False
    expected = add(unpacked(first), times(digest(first, key, message), unpacked(key)))
    return times(second, BASE) == expected
