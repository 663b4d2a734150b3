# cython: language_level=3, cdivision=True
"""How the node table lies in memory, and the small questions one can ask it.

A class has pools; a pool is one block of members, a stride apart. A member is a row's state, and behind it the
row's speeds, one for each key of the class: what a selection reads of a candidate is two lines of one page. The
members stay where they are; a bit for each slot says whether it is available. `places` tells where a row is.

Floating point rounds as in Python: no product is ever added to anything, so no compiler can fuse the two.
"""

from cpython.mem cimport PyMem_Realloc
from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from *:
    """
    #if defined(_MSC_VER)
    #include <intrin.h>
    static inline int lowest_bit(unsigned long long x)
    { unsigned long at; _BitScanForward64(&at, x); return (int) at; }
    #else
    static inline int lowest_bit(unsigned long long x) { return __builtin_ctzll(x); }
    #endif
    """
    int lowest_bit(uint64_t x) noexcept nogil

cdef enum:
    EXCLUDED_ROOM = 4  # MAX_EXCLUDED
    CHOICES_ROOM = 16  # MAX_CHOICES
    LADDER_ROOM = 16  # at least as many as POOL_LADDER has
    DRAFTS_ROOM = 64  # MAX_DRAFTS
    NEAR_SLOTS = 128  # a pool of more slots has its bits elsewhere

cdef enum:  # in the order of POLICIES
    EXPECTED_FINISH
    LEAST_CONNECTIONS
    RANDOM

cdef struct Member:  # the speeds follow
    double backlog_s
    double penalty_s
    double open_s  # audio seconds of the slots that are out
    uint64_t hash
    int32_t used
    int32_t cap
    int32_t row
    short ready
    short retired  # removed, but slots of it are still out

cdef struct Pool:  # one cache line
    char* members
    uint64_t* far_bits
    uint64_t[2] near_bits
    int32_t size
    int32_t room
    int32_t available
    int64_t used  # of the ready rows
    int64_t cap

cdef struct Class:
    Pool only  # if there is one
    Pool* pools  # if there are more
    uint64_t* open  # then one bit for each pool that has an available row
    int32_t* keys  # ascending
    int32_t* tickets  # the index of this class in each of its keys
    int32_t count  # of pools
    int32_t size  # keys
    int32_t members
    int32_t free
    int64_t used
    int64_t told  # of `used`, what the keys know
    int64_t cap
    bint exists
    bint listed

cdef struct Ticket:  # a class of a key, and its part in the draw: see `_classes_py._tickets`
    int32_t number
    int32_t column  # of the key in the class
    int32_t threshold
    int32_t other

cdef struct Sums:  # of a key: what its classes told it; apart, for a change of a row may touch many
    int64_t used
    int64_t cap
    int32_t open  # classes that have an available row
    int32_t members  # those of drafts too

cdef struct Key:
    Ticket* tickets
    uint64_t* bits  # one for each class by number
    int32_t words
    int32_t count  # classes
    bint exists
    bint stale  # the tickets' thresholds are

cdef struct Place:
    int32_t number  # of the class; -1: the handle waits to be used again
    int32_t pool
    int32_t slot

cdef struct Table:
    Place* places
    Key* keys
    Sums* sums
    Class* classes
    uint64_t* open  # one bit for each listed class that has an available row
    uint64_t* open_words  # one bit for each word of these that has one
    int32_t* spare_classes
    int64_t* shares  # room to work out tickets
    Py_ssize_t row_count
    Py_ssize_t key_count
    int32_t class_count
    int32_t spare_count
    int32_t shares_room
    int32_t draft_count
    int32_t[DRAFTS_ROOM] drafts
    int64_t max_members
    int32_t fixed_pools
    int32_t[LADDER_ROOM] ladder
    int ladder_size
    int choices
    int policy
    double sticky_ratio
    double sticky_margin_s
    uint64_t random

cdef struct Request:
    int32_t key
    uint64_t route
    double audio_s
    Py_ssize_t sticky
    int excluded
    Py_ssize_t[EXCLUDED_ROOM] exclude


cdef inline void* with_room(void* block, size_t count, size_t size) except NULL:
    """The block, with room for one more than `count`; how much room there is follows from the count."""
    if block != NULL and (count & (count - 1) or count == 0):
        return block
    return resized(block, (2 * count if count > 2 else 4) * size)


cdef inline void* resized(void* block, size_t size) except NULL:
    cdef void* moved = PyMem_Realloc(block, size)
    if moved == NULL:
        raise MemoryError()
    return moved


cdef inline bint available(const Member* member) noexcept:
    return member.ready and member.used < member.cap


cdef inline double finish_s(const Member* member, double speed, double audio_s) noexcept:
    return (member.backlog_s + member.open_s + audio_s) / speed + member.penalty_s


cdef inline double* speeds_of(const Member* member) noexcept:
    return <double*> (member + 1)


cdef inline size_t stride_of(const Class* home) noexcept:
    return sizeof(Member) + home.size * sizeof(double)


cdef inline Pool* pool_at(const Class* home, int32_t number) noexcept:
    return &home.pools[number] if home.count > 1 else <Pool*> &home.only


cdef inline Member* member_at(const Class* home, const Pool* pool, int32_t slot) noexcept:
    return <Member*> (pool.members + slot * stride_of(home))


cdef inline Member* member_in(const Table* table, Place at) noexcept:
    cdef const Class* home = &table.classes[at.number]
    return member_at(home, pool_at(home, at.pool), at.slot)


cdef inline Member* member_of(const Table* table, Py_ssize_t row) noexcept:
    return member_in(table, table.places[row])


cdef inline uint64_t* bits_of(const Pool* pool) noexcept:
    return <uint64_t*> pool.near_bits if pool.room <= NEAR_SLOTS else pool.far_bits


cdef inline bint has(const uint64_t* bits, int32_t at) noexcept:
    return bits[at >> 6] >> (at & 63) & 1


cdef inline void put_bit(uint64_t* bits, int32_t at, bint on) noexcept:
    cdef uint64_t bit = (<uint64_t> 1) << (at & 63)
    bits[at >> 6] = bits[at >> 6] | bit if on else bits[at >> 6] & ~bit


cdef inline int32_t next_bit(const uint64_t* bits, int32_t start, int32_t end) noexcept:
    """The first bit from `start` on; `end` if there is none before it."""
    cdef int32_t word = start >> 6
    cdef uint64_t left
    if start >= end:
        return end
    left = bits[word] & ~(<uint64_t> 0) << (start & 63)
    while not left:
        word += 1
        if word << 6 >= end:
            return end
        left = bits[word]
    return min((word << 6) + lowest_bit(left), end)


cdef inline int32_t nth_bit(const uint64_t* bits, int32_t n) noexcept:
    """The bit that has n others before it; there have to be so many."""
    cdef int32_t word = 0
    cdef uint64_t left = bits[0]
    while True:
        while left:
            if n == 0:
                return (word << 6) + lowest_bit(left)
            left &= left - 1
            n -= 1
        word += 1
        left = bits[word]


cdef inline int32_t next_open_pool(const Class* home, int32_t start, int32_t end) noexcept:
    """The first pool from `start` on that has an available row; `end` if there is none before it."""
    if home.count > 1:
        return next_bit(home.open, start, end)
    return start if start < end and home.only.available else end


cdef inline int32_t next_open_class(const Table* table, const Key* key, int32_t start, int32_t end) noexcept:
    """The first class of a key from `start` on that has an available row; `end` if there is none before it."""
    cdef int32_t word = start >> 6
    cdef int32_t words = min(key.words, (end + 63) >> 6)
    cdef uint64_t mask = ~(<uint64_t> 0) << (start & 63)
    cdef uint64_t left
    while word < words:
        left = key.bits[word] & table.open[word] & mask
        if left:
            return min((word << 6) + lowest_bit(left), end)
        word = next_bit(table.open_words, word + 1, words)
        mask = ~(<uint64_t> 0)
    return end


cdef inline int32_t column_of(const Class* home, Py_ssize_t key) noexcept:
    """Where a key is among those of a class, or -1 - where it would be."""
    cdef int32_t low = 0
    cdef int32_t high = home.size
    cdef int32_t middle
    while low < high:
        middle = (low + high) >> 1
        if home.keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low if low < home.size and home.keys[low] == key else -1 - low


cdef inline bint excludes(const Request* request, Py_ssize_t row) noexcept:
    cdef int i
    for i in range(request.excluded):
        if request.exclude[i] == row:
            return True
    return False


cdef inline int32_t draw(uint64_t* state, int32_t n) noexcept:
    """A random index below n from xorshift64*."""
    state[0] ^= state[0] >> 12
    state[0] ^= state[0] << 25
    state[0] ^= state[0] >> 27
    return <int32_t> (((state[0] * 0x2545F4914F6CDD1DULL) >> 32) * <uint64_t> n >> 32)
