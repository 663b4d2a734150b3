# cython: language_level=3, cdivision=True
"""How the node table lies in memory, and the small questions one can ask it.

Rows and keys are C arrays indexed by their handles. A key has an array of pools, a pool a packed array of
entries with the available ones in front, a row an array of links, one for each key it is in. Entry and link
are two halves of one membership and name each other by index, so a swap in a pool mends the link in one step.

Floating point rounds as in Python: no product is ever added to anything, so no compiler can fuse the two.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Realloc
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

cdef enum State:
    GONE  # the handle waits to be used again
    RETIRED  # removed, but slots of it are still out
    LIVE

cdef struct Link:
    int32_t key
    int32_t pool
    int32_t pos

cdef struct Entry:
    double speed
    int32_t row
    int32_t link

cdef struct Pool:
    Entry* entries
    int32_t size
    int32_t available  # so many entries in front are available
    int64_t used  # of the ready rows
    int64_t cap

cdef struct Key:
    Pool* pools
    uint64_t* open  # one bit for each pool that has an available row
    int32_t count
    int32_t members
    int32_t free
    State state
    int64_t used  # of the ready rows
    int64_t cap

cdef struct Row:  # what a sample reads comes first, in one cache line
    double backlog_s
    double penalty_s
    double open_s  # audio seconds of the slots that are out
    int32_t used
    int32_t cap
    bint ready
    int32_t size
    Link* links
    State state
    uint64_t hash

cdef struct Request:
    uint64_t route
    double audio_s
    Py_ssize_t sticky
    int excluded
    Py_ssize_t[EXCLUDED_ROOM] exclude


cdef inline void* with_room(void* block, size_t count, size_t size) except NULL:
    """The block, with room for one more than `count`; how much room there is follows from the count."""
    if block != NULL and (count & (count - 1) or count == 0):
        return block
    cdef void* larger = PyMem_Realloc(block, (2 * count if count > 2 else 4) * size)
    if larger == NULL:
        raise MemoryError()
    return larger


cdef inline bint available(const Row* row) noexcept:
    return row.ready and row.used < row.cap


cdef inline double finish_s(const Row* row, double speed, double audio_s) noexcept:
    return (row.backlog_s + row.open_s + audio_s) / speed + row.penalty_s


cdef inline int32_t pool_of(const Key* key, const Row* row) noexcept:
    return <int32_t> (row.hash % <uint64_t> key.count)


cdef inline int32_t find(const Row* row, Py_ssize_t key) noexcept:
    """Which link of a row belongs to a key; -1 if none does."""
    cdef int32_t i
    for i in range(row.size):
        if row.links[i].key == key:
            return i
    return -1


cdef inline int32_t next_open(const Key* key, int32_t start, int32_t end) noexcept:
    """The first pool from `start` on that has an available row; `end` or more if there is none before it."""
    cdef int32_t word = start >> 6
    cdef uint64_t bits = ~(<uint64_t> 0) << (start & 63)
    while word << 6 < end:
        bits &= key.open[word]
        if bits:
            return (word << 6) + lowest_bit(bits)
        word += 1
        bits = ~(<uint64_t> 0)
    return end


cdef inline bint excludes(const Request* request, Py_ssize_t row) noexcept:
    cdef int i
    for i in range(request.excluded):
        if request.exclude[i] == row:
            return True
    return False


cdef inline bint seen(const int32_t* found, int32_t count, int32_t pos) noexcept:
    cdef int32_t i
    for i in range(count):
        if found[i] == pos:
            return True
    return False


cdef inline void free_pools(Key* key) noexcept:
    cdef int32_t number
    if key.pools != NULL:
        for number in range(key.count):
            PyMem_Free(key.pools[number].entries)
    PyMem_Free(key.pools)
    PyMem_Free(key.open)


cdef inline int make_pools(Key* key, int32_t count) except -1:
    """Give a key so many empty pools; what it had before is the caller's to free."""
    cdef Pool* pools = <Pool*> PyMem_Calloc(count, sizeof(Pool))
    cdef uint64_t* open = <uint64_t*> PyMem_Calloc((count + 63) // 64, sizeof(uint64_t))
    if pools == NULL or open == NULL:
        PyMem_Free(pools)
        PyMem_Free(open)
        raise MemoryError()
    key.pools = pools
    key.open = open
    key.count = count
    key.free = 0
    key.used = key.cap = 0
    return 0


cdef inline int reserve(Key* new, const Key* old, const Row* rows) except -1:
    """Give the new pools room for what the old ones hold, so that nothing can fail halfway."""
    cdef int32_t number, i
    cdef Pool* pool
    for number in range(old.count):
        for i in range(old.pools[number].size):
            pool = &new.pools[pool_of(new, &rows[old.pools[number].entries[i].row])]
            pool.entries = <Entry*> with_room(pool.entries, pool.size, sizeof(Entry))
            pool.size += 1
    for number in range(new.count):
        new.pools[number].size = 0
    return 0


cdef inline void swap(Row* rows, Pool* pool, int32_t a, int32_t b) noexcept:
    cdef Entry first = pool.entries[a]
    cdef Entry second = pool.entries[b]
    pool.entries[a] = second
    pool.entries[b] = first
    rows[first.row].links[first.link].pos = b
    rows[second.row].links[second.link].pos = a


cdef inline void set_front(Row* rows, Key* key, const Link* link, bint front) noexcept:
    cdef Pool* pool = &key.pools[link.pool]
    cdef uint64_t bit = (<uint64_t> 1) << (link.pool & 63)
    if front:
        swap(rows, pool, link.pos, pool.available)
        pool.available += 1
        key.free += 1
        key.open[link.pool >> 6] |= bit
    else:
        pool.available -= 1
        key.free -= 1
        swap(rows, pool, link.pos, pool.available)
        if pool.available == 0:
            key.open[link.pool >> 6] &= ~bit


cdef inline void count(Key* key, Pool* pool, const Row* row, int sign) noexcept:
    """Add (1) or take away (-1) what a row counts for in a key and its pool."""
    if row.ready:
        key.used += sign * row.used
        key.cap += sign * row.cap
        pool.used += sign * row.used
        pool.cap += sign * row.cap


cdef inline void place(Row* rows, Key* key, Entry entry) noexcept:
    """Put an entry at the end of its pool, which has room, then to the front if its row is available."""
    cdef Row* row = &rows[entry.row]
    cdef Link* link = &row.links[entry.link]
    link.pool = pool_of(key, row)
    cdef Pool* pool = &key.pools[link.pool]
    link.pos = pool.size
    pool.entries[pool.size] = entry
    pool.size += 1
    count(key, pool, row, 1)
    if available(row):
        set_front(rows, key, link, True)


cdef inline void displace(Row* rows, Key* key, const Link* link) noexcept:
    """Take out the entry of a link, which the caller then drops."""
    cdef Pool* pool = &key.pools[link.pool]
    cdef Row* row = &rows[pool.entries[link.pos].row]
    count(key, pool, row, -1)
    if available(row):
        set_front(rows, key, link, False)
    swap(rows, pool, link.pos, pool.size - 1)
    pool.size -= 1


cdef inline void drop_link(Key* keys, Row* row, int32_t at) noexcept:
    """Forget a link; the row's last link takes its place."""
    cdef Link* moved = &row.links[at]
    row.size -= 1
    if at != row.size:
        moved[0] = row.links[row.size]
        keys[moved.key].pools[moved.pool].entries[moved.pos].link = at


cdef inline void change(Row* rows, Key* keys, Row* row, int32_t used, int32_t cap, bint ready) noexcept:
    """The only place where a row's used slots, cap or readiness change."""
    cdef bint was = available(row)
    cdef int64_t more_used = (used if ready else 0) - (row.used if row.ready else 0)
    cdef int64_t more_cap = (cap if ready else 0) - (row.cap if row.ready else 0)
    cdef int32_t i
    cdef Link* link
    cdef Key* key
    cdef Pool* pool
    row.used = used
    row.cap = cap
    row.ready = ready
    cdef bint now = available(row)
    for i in range(row.size):
        link = &row.links[i]
        key = &keys[link.key]
        pool = &key.pools[link.pool]
        key.used += more_used
        key.cap += more_cap
        pool.used += more_used
        pool.cap += more_cap
        if now != was:
            set_front(rows, key, link, now)


cdef inline int reshard(Row* rows, Key* key, int32_t count) except -1:
    """Spread the entries of a key over another number of pools; does nothing if it is the same."""
    cdef int32_t number, i
    cdef Pool* pool
    cdef Key old = key[0]
    if count == key.count:
        return 0
    make_pools(key, count)
    try:
        reserve(key, &old, rows)
    except MemoryError:
        free_pools(key)
        key[0] = old
        raise
    for number in range(old.count):
        pool = &old.pools[number]
        for i in range(pool.size):
            place(rows, key, pool.entries[i])
    free_pools(&old)
    return 0


cdef inline int32_t draw(uint64_t* state, int32_t n) noexcept:
    """A random index below n from xorshift64*."""
    state[0] ^= state[0] >> 12
    state[0] ^= state[0] << 25
    state[0] ^= state[0] >> 27
    return <int32_t> (((state[0] * 0x2545F4914F6CDD1DULL) >> 32) * <uint64_t> n >> 32)


cdef class NodeTable:
    cdef uint64_t hash_seed
    cdef uint64_t random
    cdef int choices
    cdef int64_t max_members
    cdef int32_t fixed_pools
    cdef Row* rows
    cdef Key* keys
    cdef Py_ssize_t row_count
    cdef Py_ssize_t key_count
    cdef list node_ids
    cdef list spare_rows
    cdef list spare_keys

    cdef Py_ssize_t choose(self, const Key* key, Py_ssize_t handle, const Request* request) noexcept
    cdef Entry* sample(self, const Pool* pool, const Request* request) noexcept
    cdef bint keeps(
        self, const Key* key, Py_ssize_t handle, const Entry* best, const Request* request
    ) noexcept
    cdef int unlink(self, Py_ssize_t key, Py_ssize_t row, int32_t link_at) except -1
    cdef int recycle(self, Py_ssize_t row) except -1
    cdef Row* row(self, Py_ssize_t row, State least) except NULL
    cdef Key* key(self, Py_ssize_t key) except NULL
    cdef int32_t link(self, Py_ssize_t key, Py_ssize_t row) except -1
