# cython: language_level=3, cdivision=True
"""64-bit FNV-1a, compiled: the same as `_pool_ids.fnv1a64`."""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #define FNV_START 0xCBF29CE484222325ULL
    #define FNV_PRIME 0x100000001B3ULL
    #define FNV_PRIME_2 (FNV_PRIME * FNV_PRIME)
    #define FNV_PRIME_4 (FNV_PRIME_2 * FNV_PRIME_2)
    #define FNV_PRIME_8 (FNV_PRIME_4 * FNV_PRIME_4)
    """
    const uint64_t FNV_START
    const uint64_t FNV_PRIME
    const uint64_t FNV_PRIME_8


cdef inline uint64_t fnv(const unsigned char* data, Py_ssize_t size, uint64_t seed) noexcept nogil:
    cdef uint64_t state = FNV_START
    cdef Py_ssize_t i
    for i in range(size):
        state = (state ^ data[i]) * FNV_PRIME
    if seed == 0:
        return state * FNV_PRIME_8  # the usual seed: eight zero bytes are eight multiplications
    for i in range(8):
        state = (state ^ (seed >> 8 * i & 0xFF)) * FNV_PRIME
    return state


cdef inline uint64_t hash_of(object key, uint64_t seed) except? 0:
    cdef Py_ssize_t size
    cdef const char* text
    if isinstance(key, str):
        text = PyUnicode_AsUTF8AndSize(key, &size)
        return fnv(<const unsigned char*> text, size, seed)
    if isinstance(key, bytes):
        return fnv(<const unsigned char*> (<bytes> key), len(<bytes> key), seed)
    raise TypeError("a key is text or bytes")
