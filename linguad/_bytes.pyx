# cython: boundscheck=False, wraparound=False
"""What is done to every byte, compiled; the plain-Python twin is `_bytes_py`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t
from libc.string cimport memcpy


def walk(const unsigned char[:] payload, Py_ssize_t limit, Py_ssize_t most):
    """Count the records of a Plan A payload; see `wire.opus.walk`."""
    cdef Py_ssize_t position = 0, packets = 0, end = payload.shape[0], length
    while position + 2 <= end and packets < most:
        length = payload[position] | payload[position + 1] << 8
        if not 0 < length <= limit or position + 2 + length > end:
            break
        position += 2 + length
        packets += 1
    return packets, position


def unmask(const unsigned char[::1] payload, const unsigned char[::1] mask):
    """Every byte of a WebSocket payload combined with the one of its mask of four bytes."""
    cdef Py_ssize_t size = payload.shape[0], at = 0
    cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
    cdef char *out = PyBytes_AS_STRING(result)
    cdef unsigned char twice[8]
    cdef uint64_t word, key
    if mask.shape[0] != 4:
        raise ValueError("a mask has four bytes")
    for at in range(8):
        twice[at] = mask[at & 3]
    memcpy(&key, twice, 8)
    at = 0
    while at + 8 <= size:
        memcpy(&word, &payload[at], 8)
        word ^= key
        memcpy(out + at, &word, 8)
        at += 8
    while at < size:
        out[at] = <char>(payload[at] ^ twice[at & 3])
        at += 1
    return result
