# cython: language_level=3, cdivision=True
"""Classes of rows with the same keys, compiled: `_classes_py.py` tells what they are, and does the same.

Whoever needs memory gets it before anything changes, so that nothing can fail halfway.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from linguad._table cimport *

cdef enum:
    TOLD_PART = 64  # as in `_classes_py`


cdef inline void tell(Table* table, const Class* home, int64_t used, int64_t cap, int32_t opened) noexcept:
    cdef int32_t i
    cdef Sums* sums
    for i in range(home.size):
        sums = &table.sums[home.keys[i]]
        sums.used += used
        sums.cap += cap
        sums.open += opened


cdef inline void out_of_date(Table* table, const Class* home) noexcept:
    cdef int32_t i
    for i in range(home.size):
        table.keys[home.keys[i]].stale = True


cdef inline void show_open(Table* table, int32_t number, bint opened) noexcept:
    """Note whether a listed class has an available row."""
    put_bit(table.open, number, opened)
    put_bit(table.open_words, number >> 6, table.open[number >> 6] != 0)


cdef inline void count(Table* table, Place at, int64_t used, int64_t cap, int32_t free) noexcept:
    """Add to the sums of a pool, its class, and the class's keys."""
    cdef Class* home = &table.classes[at.number]
    cdef Pool* pool = pool_at(home, at.pool)
    cdef bint was_open = home.free > 0
    cdef int32_t opened
    cdef int64_t untold, least
    pool.used += used
    pool.cap += cap
    pool.available += free
    home.used += used
    home.cap += cap
    home.free += free
    if free and home.count > 1:
        put_bit(home.open, at.pool, pool.available > 0)
    if home.listed:
        untold = home.used - home.told
        opened = <int32_t> (home.free > 0) - <int32_t> was_open
        least = max(home.told, min(home.cap, <int64_t> TOLD_PART))
        if cap or opened or (untold if untold > 0 else -untold) * TOLD_PART > least:
            home.told = home.used
            tell(table, home, untold, cap, opened)
            if opened:
                show_open(table, at.number, opened > 0)


cdef inline void count_row(Table* table, Place at, const Member* member, int sign) noexcept:
    """Add (1) or take away (-1) what a row counts for."""
    if member.ready:
        count(table, at, sign * member.used, sign * member.cap, sign * <int32_t> available(member))


cdef inline void change(Table* table, Place at, int32_t used, int32_t cap, bint ready) noexcept:
    """The only place where used slots, cap or readiness of a row change."""
    cdef Class* home = &table.classes[at.number]
    cdef Pool* pool = pool_at(home, at.pool)
    cdef Member* member = member_at(home, pool, at.slot)
    cdef bint was = available(member)
    cdef int64_t more_used = (used if ready else 0) - (member.used if member.ready else 0)
    cdef int64_t more_cap = (cap if ready else 0) - (member.cap if member.ready else 0)
    member.used = used
    member.cap = cap
    member.ready = ready
    cdef bint now = available(member)
    if now != was:
        put_bit(bits_of(pool), at.slot, now)
    count(table, at, more_used, more_cap, <int32_t> now - <int32_t> was)


cdef inline int make_room(Pool* pool, int32_t room, size_t stride) except -1:
    """Room for so many members at least."""
    cdef int32_t words = (pool.room + 63) >> 6 if pool.room > NEAR_SLOTS else 0
    cdef int32_t needed
    if room <= pool.room:
        return 0
    room += room >> 2
    needed = (room + 63) >> 6
    pool.members = <char*> resized(pool.members, room * stride)
    if room > NEAR_SLOTS:
        pool.far_bits = <uint64_t*> resized(pool.far_bits, needed * sizeof(uint64_t))
        memset(&pool.far_bits[words], 0, (needed - words) * sizeof(uint64_t))
        if not words:
            memcpy(pool.far_bits, pool.near_bits, sizeof(pool.near_bits))
    pool.room = room
    return 0


cdef inline void put(Table* table, int32_t number, const Member* member, size_t size) noexcept:
    """Add a row, a copy of so many bytes of a member, to a class whose pool has room for it."""
    cdef Class* home = &table.classes[number]
    cdef Place at = Place(number, <int32_t> (member.hash % <uint64_t> home.count), 0)
    cdef Pool* pool = pool_at(home, at.pool)
    at.slot = pool.size
    pool.size += 1
    memcpy(member_at(home, pool, at.slot), member, size)
    put_bit(bits_of(pool), at.slot, available(member))
    home.members += 1
    table.places[member.row] = at
    count_row(table, at, member, 1)


cdef inline void cut(Table* table, Place at) noexcept:
    """Take a row out of its class; the last one of its pool takes its slot."""
    cdef Class* home = &table.classes[at.number]
    cdef Pool* pool = pool_at(home, at.pool)
    cdef Member* member = member_at(home, pool, at.slot)
    cdef int32_t last = pool.size - 1
    count_row(table, at, member, -1)
    if at.slot != last:
        memcpy(member, member_at(home, pool, last), stride_of(home))
        put_bit(bits_of(pool), at.slot, has(bits_of(pool), last))
        table.places[member.row].slot = at.slot
    pool.size = last
    home.members -= 1


cdef inline void free_pools(Class* home) noexcept:
    cdef int32_t i
    for i in range(home.count):
        PyMem_Free(pool_at(home, i).members)
        PyMem_Free(pool_at(home, i).far_bits)
    PyMem_Free(home.pools)
    PyMem_Free(home.open)
    home.pools = NULL
    home.open = NULL


cdef inline int make_pools(Class* home, int32_t pools) except -1:
    """Give a class so many empty pools; what it had before is the caller's to free."""
    memset(&home.only, 0, sizeof(Pool))
    home.pools = NULL
    home.open = NULL
    home.count = 1
    if pools > 1:
        home.pools = <Pool*> PyMem_Calloc(pools, sizeof(Pool))
        home.open = <uint64_t*> PyMem_Calloc((pools + 63) // 64, sizeof(uint64_t))
        if home.pools == NULL or home.open == NULL:
            free_pools(home)
            raise MemoryError()
        home.count = pools
    home.members = home.free = 0
    home.used = home.cap = 0
    return 0


cdef inline int make_rooms(Class* new, const Class* old) except -1:
    """Give the new pools room for what the old ones hold."""
    cdef int32_t i, slot
    cdef Pool* pool
    cdef size_t stride = stride_of(old)
    for i in range(old.count):
        pool = pool_at(old, i)
        for slot in range(pool.size):
            pool_at(new, <int32_t> (member_at(old, pool, slot).hash % <uint64_t> new.count)).size += 1
    for i in range(new.count):
        pool = pool_at(new, i)
        make_room(pool, pool.size, stride)
        pool.size = 0
    return 0


cdef inline int shard(Table* table, int32_t number, int32_t pools) except -1:
    """Spread the rows of a class over so many pools."""
    cdef Class* home = &table.classes[number]
    cdef Class old = home[0]
    cdef Pool* pool
    cdef int32_t i, slot
    if pools == home.count:
        return 0
    make_pools(home, pools)
    try:
        make_rooms(home, &old)
    except MemoryError:
        free_pools(home)
        home[0] = old
        raise
    home.listed = False  # for the keys nothing changes
    for i in range(old.count):
        pool = pool_at(&old, i)
        for slot in range(pool.size):
            put(table, number, member_at(&old, pool, slot), stride_of(&old))
    home.listed = old.listed
    free_pools(&old)
    return 0


cdef inline int32_t pool_count(const Table* table, int64_t members) noexcept:
    """How many pools a class of so many rows has."""
    cdef int64_t most = 1 if table.fixed_pools else table.max_members
    cdef int i = 0
    while i < table.ladder_size - 1 and table.ladder[i] * most < members:
        i += 1
    return min(table.ladder[i], table.fixed_pools) if table.fixed_pools else table.ladder[i]


cdef inline int resize(Table* table, int32_t number, int32_t more) except -1:
    """Make a class ready for so many more rows."""
    if table.classes[number].listed:
        out_of_date(table, &table.classes[number])
        shard(table, number, pool_count(table, table.classes[number].members + more))
    return 0


cdef inline int move(Table* table, Py_ssize_t row, int32_t number) except -1:
    """Move a row to another class, with the speeds that this has, too."""
    cdef Place at = table.places[row]
    cdef Class* left = &table.classes[at.number]
    cdef Class* home = &table.classes[number]
    cdef Member* member = member_at(left, pool_at(left, at.pool), at.slot)
    resize(table, number, 1)
    cdef Pool* pool = pool_at(home, <int32_t> (member.hash % <uint64_t> home.count))
    make_room(pool, pool.size + 1, stride_of(home))
    put(table, number, member, min(stride_of(left), stride_of(home)))
    cut(table, at)
    resize(table, at.number, 0)
    return 0


cdef inline int enlist(Table* table, int32_t number) except -1:
    """List a class in its keys."""
    cdef Class* home = &table.classes[number]
    cdef int32_t i, words = (number >> 6) + 1
    cdef Key* key
    home.tickets = <int32_t*> resized(home.tickets, (home.size + 1) * sizeof(int32_t))
    for i in range(home.size):
        key = &table.keys[home.keys[i]]
        key.tickets = <Ticket*> with_room(key.tickets, key.count, sizeof(Ticket))
        if key.count >= table.shares_room:
            table.shares = <int64_t*> resized(table.shares, 2 * (key.count + 1) * sizeof(int64_t))
            table.shares_room = 2 * (key.count + 1)
        if words > key.words:
            key.bits = <uint64_t*> resized(key.bits, words * sizeof(uint64_t))
            memset(&key.bits[key.words], 0, (words - key.words) * sizeof(uint64_t))
            key.words = words
    for i in range(home.size):
        key = &table.keys[home.keys[i]]
        key.tickets[key.count] = Ticket(number, i, 0, 0)
        home.tickets[i] = key.count
        key.count += 1
        put_bit(key.bits, number, True)
    home.listed = True
    home.told = home.used
    tell(table, home, home.used, home.cap, home.free > 0)
    out_of_date(table, home)
    show_open(table, number, home.free > 0)
    return 0


cdef inline void delist(Table* table, int32_t number) noexcept:
    """Take a class out of its keys' lists."""
    cdef Class* home = &table.classes[number]
    cdef int32_t i
    cdef Key* key
    cdef Ticket last
    for i in range(home.size):
        key = &table.keys[home.keys[i]]
        key.count -= 1
        last = key.tickets[key.count]
        key.tickets[home.tickets[i]] = last
        table.classes[last.number].tickets[last.column] = home.tickets[i]
        put_bit(key.bits, number, False)
    home.listed = False
    tell(table, home, -home.told, -home.cap, -<int32_t> (home.free > 0))
    out_of_date(table, home)
    show_open(table, number, False)


cdef inline int32_t new_class(Table* table) except -1:
    """The number of a class without keys and rows, not listed."""
    cdef int32_t number = table.class_count
    cdef int32_t words = (number >> 6) + 1
    if table.spare_count:
        table.spare_count -= 1
        number = table.spare_classes[table.spare_count]
    else:
        table.classes = <Class*> with_room(table.classes, number, sizeof(Class))
        table.spare_classes = <int32_t*> with_room(table.spare_classes, number, sizeof(int32_t))
        if number & 63 == 0:
            table.open = <uint64_t*> resized(table.open, words * sizeof(uint64_t))
            table.open[words - 1] = 0
            table.open_words = <uint64_t*> resized(table.open_words, ((words + 63) >> 6) * sizeof(uint64_t))
            if words & 63 == 1:
                table.open_words[words >> 6] = 0
        table.class_count += 1
    memset(&table.classes[number], 0, sizeof(Class))
    table.classes[number].count = 1
    table.classes[number].exists = True
    return number


cdef inline void drop_class(Table* table, int32_t number) noexcept:
    """Forget a class that is not listed."""
    cdef Class* home = &table.classes[number]
    free_pools(home)
    PyMem_Free(home.keys)
    PyMem_Free(home.tickets)
    memset(home, 0, sizeof(Class))
    table.spare_classes[table.spare_count] = number
    table.spare_count += 1


cdef inline void drop_draft(Table* table, int32_t number) noexcept:
    """It is not a draft any more, if it was one."""
    cdef int32_t i
    for i in range(table.draft_count):
        if table.drafts[i] == number:
            table.draft_count -= 1
            memmove(&table.drafts[i], &table.drafts[i + 1], (table.draft_count - i) * sizeof(int32_t))
            return


cdef inline int add_column(Table* table, int32_t number, int32_t key, int32_t column, double speed) except -1:
    """Give the one row of a draft a key more, which comes at this column."""
    cdef Class* home = &table.classes[number]
    home.keys = <int32_t*> resized(home.keys, (home.size + 1) * sizeof(int32_t))
    home.only.members = <char*> resized(home.only.members, stride_of(home) + sizeof(double))
    home.only.room = 1
    cdef double* speeds = speeds_of(<Member*> home.only.members)
    memmove(&home.keys[column + 1], &home.keys[column], (home.size - column) * sizeof(int32_t))
    memmove(&speeds[column + 1], &speeds[column], (home.size - column) * sizeof(double))
    home.keys[column] = key
    speeds[column] = speed
    home.size += 1
    return 0


cdef inline void drop_column(Table* table, int32_t number, int32_t column) noexcept:
    """Take a key from a class that is not listed."""
    cdef Class* home = &table.classes[number]
    cdef int32_t i, slot
    cdef size_t stride = stride_of(home)
    cdef size_t kept = sizeof(Member) + column * sizeof(double)
    cdef size_t after = (home.size - column - 1) * sizeof(double)
    cdef char* old
    cdef char* new
    for i in range(home.count):
        for slot in range(pool_at(home, i).size):
            old = pool_at(home, i).members + slot * stride
            new = pool_at(home, i).members + slot * (stride - sizeof(double))
            memmove(new, old, kept)
            memmove(new + kept, old + kept + sizeof(double), after)
    memmove(&home.keys[column], &home.keys[column + 1], (home.size - column - 1) * sizeof(int32_t))
    home.size -= 1


cdef inline void refresh_tickets(Table* table, Key* key, int32_t total) noexcept:
    """Walker's alias method, as `_classes_py._tickets`; lists of indices hang together by `other`."""
    cdef Ticket* tickets = key.tickets
    cdef int64_t* shares = table.shares
    cdef int32_t small = -1
    cdef int32_t large = -1
    cdef int32_t i, poor, rich
    for i in range(key.count):
        shares[i] = <int64_t> table.classes[tickets[i].number].members * key.count
        tickets[i].threshold = total
        if shares[i] < total:
            tickets[i].other = small
            small = i
        else:
            tickets[i].other = large
            large = i
    while small >= 0 and large >= 0:
        poor = small
        small = tickets[poor].other
        rich = large
        large = tickets[rich].other
        tickets[poor].threshold = <int32_t> shares[poor]
        tickets[poor].other = rich
        shares[rich] -= total - shares[poor]
        if shares[rich] < total:
            tickets[rich].other = small
            small = rich
        else:
            tickets[rich].other = large
            large = rich
    key.stale = False
