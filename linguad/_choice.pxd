# cython: language_level=3, cdivision=True
"""The choice among the rows of a key, compiled: the rules are those of `_hash_py.NodeTable._choose`."""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint64_t

from linguad._classes cimport refresh_tickets
from linguad._table cimport *

cdef extern from *:
    """
    #define OVERLOAD_RATIO 1.25
    """
    const double OVERLOAD_RATIO

cdef enum:  # as in `_hash_py`
    SCARCE_PART = 8
    DRAWS = 8
    LOOKS = 8
    THIN_PART = 4
    FOUND_ROOM = 2 * CHOICES_ROOM + EXCLUDED_ROOM

cdef struct Found:  # rows to compare, each with its speed for the key
    Place[FOUND_ROOM] places
    (Member*)[FOUND_ROOM] members
    (const double*)[FOUND_ROOM] speeds
    int32_t count


cdef inline bint overloaded(const Sums* sums, int64_t used, int64_t cap) noexcept:
    cdef double above = <double> (used - 1) * <double> sums.cap
    return above > OVERLOAD_RATIO * <double> sums.used * <double> cap


cdef inline bint consider(
    const Table* table, const Request* request, Place at, int32_t column, Found* found
) noexcept:
    """Add an available row that is neither found nor excluded."""
    cdef Member* member = member_in(table, at)
    cdef int32_t i
    for i in range(found.count):
        if found.members[i] == member:
            return False
    if request.excluded and excludes(request, member.row):
        return False
    found.places[found.count] = at
    found.members[found.count] = member
    found.speeds[found.count] = speeds_of(member) + column
    found.count += 1
    return True


cdef inline void shuffle(Table* table, Found* found, int32_t first) noexcept:
    """Put the rows found from an index on in random order, for of equal ones the first is chosen."""
    cdef int32_t i, at
    cdef Place place
    cdef Member* member
    cdef const double* speed
    for i in range(found.count - 1, first, -1):
        at = first + draw(&table.random, i - first + 1)
        place, member, speed = found.places[i], found.members[i], found.speeds[i]
        found.places[i], found.members[i], found.speeds[i] = (
            found.places[at], found.members[at], found.speeds[at]
        )
        found.places[at], found.members[at], found.speeds[at] = place, member, speed


cdef inline void sample(
    Table* table, const Request* request, int32_t number, int32_t pool_number, int32_t column, Found* found
) noexcept:
    """Add so many random available rows of a pool that there are enough; all of them if they are few."""
    cdef const Pool* pool = pool_at(&table.classes[number], pool_number)
    cdef const uint64_t* bits = bits_of(pool)
    cdef Place at = Place(number, pool_number, 0)
    cdef bint thin = pool.available * THIN_PART < pool.size
    cdef int32_t before = found.count
    if pool.available > table.choices + request.excluded:
        while found.count < table.choices:
            at.slot = nth_bit(bits, draw(&table.random, pool.available)) if thin else draw(&table.random, pool.size)
            if thin or has(bits, at.slot):
                consider(table, request, at, column, found)
        return
    at.slot = next_bit(bits, 0, pool.size)
    while at.slot < pool.size:
        consider(table, request, at, column, found)
        at.slot = next_bit(bits, at.slot + 1, pool.size)
    shuffle(table, found, before)


cdef inline int32_t calm_pool(const Sums* sums, const Class* home, uint64_t route) noexcept:
    """The first open pool of a class's ring that is not overloaded; -1 if the whole class is."""
    cdef int32_t start, number, end
    cdef int half
    if not home.free or overloaded(sums, home.used, home.cap):
        return -1
    if home.count == 1:
        return 0
    start = <int32_t> (route % <uint64_t> home.count)
    for half in range(2):
        end = start if half else home.count
        number = next_open_pool(home, 0 if half else start, end)
        while number < end:
            if not overloaded(sums, home.pools[number].used, home.pools[number].cap):
                return number
            number = next_open_pool(home, number + 1, end)
    return -1


cdef inline void sample_any(
    Table* table, const Request* request, int32_t number, int32_t column, Found* found
) noexcept:
    """Sample the first open pool of a class's ring whose rows are not all excluded."""
    cdef const Class* home = &table.classes[number]
    cdef int32_t start = <int32_t> (request.route % <uint64_t> home.count)
    cdef int32_t before = found.count
    cdef int32_t pool, end
    cdef int half
    for half in range(2):
        end = start if half else home.count
        pool = next_open_pool(home, 0 if half else start, end)
        while pool < end:
            sample(table, request, number, pool, column, found)
            if found.count > before:
                return
            pool = next_open_pool(home, pool + 1, end)


cdef inline bint few_free(const Table* table, const Request* request) noexcept:
    """Whether no more rows of a key are available than may be excluded and have to be compared."""
    cdef const Key* key = &table.keys[request.key]
    cdef int32_t most = table.choices + request.excluded
    cdef int32_t number
    if table.sums[request.key].open > most:
        return False
    number = next_open_class(table, key, 0, table.class_count)
    while number < table.class_count:
        most -= table.classes[number].free
        if most < 0:
            return False
        number = next_open_class(table, key, number + 1, table.class_count)
    return True


cdef inline void find_all(Table* table, const Request* request, Found* found) noexcept:
    """All rows of a key that may be chosen, when they are few."""
    cdef const Key* key = &table.keys[request.key]
    cdef Place at = Place(next_open_class(table, key, 0, table.class_count), 0, 0)
    cdef const Class* home
    cdef const Pool* pool
    cdef int32_t column
    while at.number < table.class_count:
        home = &table.classes[at.number]
        column = column_of(home, request.key)
        at.pool = next_open_pool(home, 0, home.count)
        while at.pool < home.count:
            pool = pool_at(home, at.pool)
            at.slot = next_bit(bits_of(pool), 0, pool.size)
            while at.slot < pool.size:
                consider(table, request, at, column, found)
                at.slot = next_bit(bits_of(pool), at.slot + 1, pool.size)
            at.pool = next_open_pool(home, at.pool + 1, home.count)
        at.number = next_open_class(table, key, at.number + 1, table.class_count)
    shuffle(table, found, 0)


cdef inline void find_drawn(Table* table, const Request* request, Found* found) noexcept:
    """Rows of random classes, from the first calm pool of each, until there are enough to compare."""
    cdef Key* key = &table.keys[request.key]
    cdef const Sums* sums = &table.sums[request.key]
    cdef const Ticket* ticket
    cdef int32_t i, pool
    if <int64_t> sums.open * SCARCE_PART < key.count:
        return
    if key.stale:
        refresh_tickets(table, key, sums.members)
    for i in range(DRAWS):
        ticket = key.tickets
        if key.count > 1:
            ticket = &key.tickets[draw(&table.random, key.count)]
            if draw(&table.random, sums.members) >= ticket.threshold:
                ticket = &key.tickets[ticket.other]
        pool = calm_pool(sums, &table.classes[ticket.number], request.route)
        if pool >= 0:
            sample(table, request, ticket.number, pool, ticket.column, found)
            if found.count >= table.choices:
                return


cdef inline void find_next(Table* table, const Request* request, Found* found) noexcept:
    """Rows of the open classes, from a random one on, until there are enough; calm pools before others."""
    cdef const Key* key = &table.keys[request.key]
    cdef const Sums* sums = &table.sums[request.key]
    cdef int32_t start = draw(&table.random, table.class_count)
    cdef int32_t number, end, column, pool, looks
    cdef int half, calm
    for calm in range(1, -1, -1):
        looks = 0
        for half in range(2):
            end = start if half else table.class_count
            number = next_open_class(table, key, 0 if half else start, end)
            while number < end:
                column = column_of(&table.classes[number], request.key)
                if calm:
                    pool = calm_pool(sums, &table.classes[number], request.route)
                    if pool >= 0:
                        sample(table, request, number, pool, column, found)
                else:
                    sample_any(table, request, number, column, found)
                looks += 1
                if found.count >= table.choices or (looks >= LOOKS and (calm or found.count)):
                    break
                number = next_open_class(table, key, number + 1, end)
            else:
                continue
            break
        if found.count:
            return


cdef inline bint keeps(Table* table, const Request* request, const Member* best, double best_speed) noexcept:
    """Whether the sticky row may be kept instead of the best one."""
    cdef const Member* member
    cdef int32_t column
    cdef double finish, best_finish, used, best_used
    if not 0 <= request.sticky < table.row_count or table.places[request.sticky].number < 0:
        return False
    column = column_of(&table.classes[table.places[request.sticky].number], request.key)
    if column < 0 or excludes(request, request.sticky):
        return False
    member = member_of(table, request.sticky)
    if not available(member):
        return False
    if table.policy == RANDOM:
        return True
    if table.policy == LEAST_CONNECTIONS:
        used = <double> (member.used - 1)
        best_used = table.sticky_ratio * <double> best.used
        return used * <double> best.cap <= best_used * <double> member.cap
    finish = finish_s(member, speeds_of(member)[column], request.audio_s)
    best_finish = finish_s(best, best_speed, request.audio_s)
    return finish <= table.sticky_ratio * best_finish or finish <= best_finish + table.sticky_margin_s


cdef inline int32_t best_of(const Table* table, const Request* request, const Found* found) noexcept:
    """The index of the best of the rows found, of equal ones the first."""
    cdef int32_t i
    cdef int32_t best = 0
    cdef double finish, part = 0.0
    cdef double best_finish = INFINITY
    cdef double best_part = INFINITY
    if found.count == 1 or table.policy == RANDOM:
        return 0
    for i in range(found.count):
        if table.policy == LEAST_CONNECTIONS:
            part = <double> found.members[i].used / <double> found.members[i].cap
        finish = finish_s(found.members[i], found.speeds[i][0], request.audio_s)
        if part < best_part or (part == best_part and finish < best_finish):
            best = i
            best_part = part
            best_finish = finish
    return best


cdef inline Place choose(Table* table, const Request* request) noexcept:
    """Where the row for a job is; class -1 if there is none."""
    cdef Found found
    cdef int32_t best
    found.count = 0
    if not table.sums[request.key].open:
        return Place(-1, 0, 0)
    if few_free(table, request):
        find_all(table, request, &found)
    else:
        find_drawn(table, request, &found)
        if not found.count:
            find_next(table, request, &found)
    if not found.count:
        return Place(-1, 0, 0)
    best = best_of(table, request, &found)
    if request.sticky >= 0 and keeps(table, request, found.members[best], found.speeds[best][0]):
        return table.places[request.sticky]
    return found.places[best]
