# cython: language_level=3, cdivision=True
"""Pool hashing and node selection, compiled: the same answers as `_hash_py.py`, which tells the rules.

`_hash.pxd` says how the table lies in memory. What a change of a row costs: a few words per key of that row,
and one swap per key when its availability flips.
"""

from cpython.mem cimport PyMem_Free
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memset

from linguad._hash_py import (
    MAX_CAP,
    MAX_CHOICES,
    MAX_EXCLUDED,
    OVERLOAD_RATIO,
    POOL_LADDER,
    STICKY_MARGIN_S,
    STICKY_RATIO,
    checked_cap,
    checked_speed,
    pool_probe_order,
    ring_order_ids,
)

if MAX_EXCLUDED != EXCLUDED_ROOM or MAX_CHOICES != CHOICES_ROOM or len(POOL_LADDER) > LADDER_ROOM:
    raise ImportError("linguad._hash was built for other limits than those of _hash_py; build it again")

cdef double overload_ratio = OVERLOAD_RATIO
cdef double sticky_ratio = STICKY_RATIO
cdef double sticky_margin_s = STICKY_MARGIN_S
cdef int ladder_size = len(POOL_LADDER)
cdef int32_t[LADDER_ROOM] ladder
for _i in range(ladder_size):
    ladder[_i] = POOL_LADDER[_i]


cdef uint64_t[9] fnv_prime_power  # a run of zero bytes is one multiplication by a power of the prime
fnv_prime_power[0] = 1
for _i in range(8):
    fnv_prime_power[_i + 1] = fnv_prime_power[_i] * <uint64_t> 0x100000001B3ULL


cdef inline uint64_t fnv(const unsigned char* data, Py_ssize_t size, uint64_t seed) noexcept nogil:
    cdef uint64_t state = 0xCBF29CE484222325ULL
    cdef Py_ssize_t i
    cdef int left = 8
    for i in range(size):
        state = (state ^ data[i]) * 0x100000001B3ULL
    while seed:
        state = (state ^ (seed & 0xFF)) * 0x100000001B3ULL
        seed >>= 8
        left -= 1
    return state * fnv_prime_power[left]


cdef uint64_t hash_of(object key, uint64_t seed) except? 0:
    cdef Py_ssize_t size
    cdef const char* text
    if isinstance(key, str):
        text = PyUnicode_AsUTF8AndSize(key, &size)
        return fnv(<const unsigned char*> text, size, seed)
    if isinstance(key, bytes):
        return fnv(<const unsigned char*> (<bytes> key), len(<bytes> key), seed)
    raise TypeError("a key is text or bytes")


def fnv1a64(key, uint64_t seed):
    """64-bit FNV-1a of the key (text as UTF-8) followed by the seed as 8 bytes, least significant first."""
    return hash_of(key, seed)


def pool_id_for_key(int64_t count, uint64_t seed, key):
    """The pool, 0 to count - 1, in which a node or a job belongs; a count below 1 means 1."""
    return hash_of(key, seed) % <uint64_t> max(count, 1)


def pick_index_for_key(int64_t n, uint64_t seed, key):
    """The index, 0 to n - 1, that a key prefers in a list of n; n below 1 means 1."""
    return hash_of(key, seed) % <uint64_t> max(n, 1)


cdef int32_t pool_count(int64_t members, int64_t max_members) noexcept:
    cdef int i
    for i in range(ladder_size):
        if ladder[i] * max_members >= members:
            return ladder[i]
    return ladder[ladder_size - 1]


def pool_count_for(int64_t members, int64_t max_members=100):
    """The smallest number of the ladder that gives pools of at most `max_members` on average."""
    if max_members < 1:
        raise ValueError("max_members must be at least 1")
    return pool_count(members, max_members)


cdef inline bint overloaded(const Key* key, const Pool* pool) noexcept:
    cdef double above = <double> (pool.used - 1) * <double> key.cap
    return above > overload_ratio * <double> key.used * <double> pool.cap


cdef inline double checked_seconds(double seconds) except -1.0:
    if not 0.0 <= seconds < INFINITY:
        raise ValueError("seconds must be a finite number, 0 or more")
    return seconds


cdef class NodeTable:
    """Slots and loads of all nodes, and the choice of a node for a job (see `_hash_py.NodeTable`)."""

    def __cinit__(
        self,
        *,
        uint64_t hash_seed=0,
        uint64_t rng_seed=1,
        int choices=3,
        int64_t max_members=100,
        int32_t pools=0,
    ):
        if not 1 <= choices <= CHOICES_ROOM:
            raise ValueError(f"choices must be 1 to {MAX_CHOICES}")
        if max_members < 1 or not 0 <= pools <= POOL_LADDER[-1]:
            raise ValueError(f"max_members must be at least 1, pools 0 to {POOL_LADDER[-1]}")
        self.hash_seed = hash_seed
        self.choices = choices
        self.max_members = max_members
        self.fixed_pools = pools
        self.random = hash_of(b"node table", rng_seed) or 1
        self.node_ids = []
        self.spare_rows = []
        self.spare_keys = []

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.row_count):
            PyMem_Free(self.rows[i].links)
        for i in range(self.key_count):
            free_pools(&self.keys[i])
        PyMem_Free(self.rows)
        PyMem_Free(self.keys)

    def add_node(self, str node_id not None, int64_t cap):
        """A row for a node with `cap` slots, not ready and in no key; rows of removed nodes are reused."""
        cdef uint64_t hashed = hash_of(node_id, self.hash_seed)
        cdef int32_t slots = checked_cap(cap)
        cdef Py_ssize_t row
        if not self.spare_rows:
            self.rows = <Row*> with_room(self.rows, self.row_count, sizeof(Row))
            memset(&self.rows[self.row_count], 0, sizeof(Row))
            self.node_ids.append(None)
            self.spare_rows.append(self.row_count)
            self.row_count += 1
        row = self.spare_rows.pop()
        cdef Row* node = &self.rows[row]
        node.backlog_s = node.penalty_s = node.open_s = 0.0
        node.hash = hashed
        node.cap = slots
        node.state = LIVE
        self.node_ids[row] = node_id
        return row

    def remove_node(self, Py_ssize_t row):
        """Take a node out of all keys; `release` still works, and the row is reused after its last slot."""
        cdef Row* node = self.row(row, LIVE)
        while node.size:
            self.unlink(node.links[0].key, row, 0)
        node.ready = False
        node.state = RETIRED
        self.recycle(row)

    def set_cap(self, Py_ssize_t row, int64_t cap):
        """Change a node's slots; slots above the new cap stay out until they are released."""
        cdef Row* node = self.row(row, LIVE)
        change(self.rows, self.keys, node, node.used, checked_cap(cap), node.ready)

    def set_ready(self, Py_ssize_t row, bint ready):
        """A row that is not ready is never chosen; its slots stay out until they are released."""
        cdef Row* node = self.row(row, LIVE)
        change(self.rows, self.keys, node, node.used, node.cap, ready)

    def set_load(self, Py_ssize_t row, double backlog_s, double penalty_s):
        """The reported backlog in audio seconds (without our open attempts) and the penalty in seconds."""
        cdef Row* node = self.row(row, LIVE)
        checked_seconds(backlog_s)
        checked_seconds(penalty_s)
        node.backlog_s = backlog_s
        node.penalty_s = penalty_s

    def add_key(self):
        """A handle for a new index key without rows; handles of removed keys are reused."""
        cdef Py_ssize_t key
        if not self.spare_keys:
            self.keys = <Key*> with_room(self.keys, self.key_count, sizeof(Key))
            memset(&self.keys[self.key_count], 0, sizeof(Key))
            self.spare_keys.append(self.key_count)
            self.key_count += 1
        key = self.spare_keys[-1]
        make_pools(&self.keys[key], 1)
        self.keys[key].state = LIVE
        self.spare_keys.pop()
        return key

    def remove_key(self, Py_ssize_t key):
        """Forget a key; its rows keep their slots and their other keys."""
        cdef Key* entry = self.key(key)
        cdef Pool* pool
        cdef int32_t number, i
        for number in range(entry.count):
            pool = &entry.pools[number]
            for i in range(pool.size):
                drop_link(self.keys, &self.rows[pool.entries[i].row], pool.entries[i].link)
        free_pools(entry)
        memset(entry, 0, sizeof(Key))
        self.spare_keys.append(key)

    def join(self, Py_ssize_t key, Py_ssize_t row, double speed=1.0):
        """Make a row eligible for a key, at `speed` audio seconds per second."""
        cdef Key* entry = self.key(key)
        cdef Row* node = self.row(row, LIVE)
        if find(node, key) >= 0:
            raise ValueError(f"row {row} is already in key {key}")
        checked_speed(speed)
        node.links = <Link*> with_room(node.links, node.size, sizeof(Link))
        reshard(self.rows, entry, self.fixed_pools or pool_count(entry.members + 1, self.max_members))
        cdef Pool* pool = &entry.pools[pool_of(entry, node)]
        pool.entries = <Entry*> with_room(pool.entries, pool.size, sizeof(Entry))
        cdef Entry new = Entry(speed, <int32_t> row, node.size)
        node.links[node.size].key = <int32_t> key
        node.size += 1
        place(self.rows, entry, new)
        entry.members += 1

    def leave(self, Py_ssize_t key, Py_ssize_t row):
        """Take a row out of a key."""
        self.key(key)
        self.unlink(key, row, self.link(key, row))

    def set_speed(self, Py_ssize_t key, Py_ssize_t row, double speed):
        """Change the speed of a row in a key."""
        cdef Key* entry = self.key(key)
        cdef Link* link = &self.row(row, LIVE).links[self.link(key, row)]
        entry.pools[link.pool].entries[link.pos].speed = checked_speed(speed)

    def select(
        self, Py_ssize_t key, uint64_t route, double audio_s, exclude=(), Py_ssize_t sticky=-1
    ):
        """Choose a row for `audio_s` seconds of audio and take one of its slots; -1 when nobody is free."""
        cdef Request request
        cdef Py_ssize_t chosen
        cdef Row* node
        read_request(&request, route, audio_s, exclude, sticky)
        chosen = self.choose(self.key(key), key, &request)
        if chosen >= 0:
            node = &self.rows[chosen]
            node.open_s += audio_s
            change(self.rows, self.keys, node, node.used + 1, node.cap, node.ready)
        return chosen

    def take(self, Py_ssize_t row, double audio_s, int64_t extra=0):
        """Take a slot of exactly this row if it is ready and uses less than cap + extra."""
        cdef Row* node = self.row(row, LIVE)
        checked_seconds(audio_s)
        if extra < 0:
            raise ValueError("extra must not be negative")
        if not node.ready or node.used >= node.cap + extra:
            return False
        node.open_s += audio_s
        change(self.rows, self.keys, node, node.used + 1, node.cap, node.ready)
        return True

    def release(self, Py_ssize_t row, double audio_s):
        """Give a slot back, with the audio seconds it was taken for; also for a removed node."""
        cdef Row* node = self.row(row, RETIRED)
        checked_seconds(audio_s)
        if node.used == 0:
            raise ValueError(f"row {row} has no slot to release")
        node.open_s -= audio_s
        if node.used == 1 or node.open_s < 0.0:
            node.open_s = 0.0
        change(self.rows, self.keys, node, node.used - 1, node.cap, node.ready)
        self.recycle(row)

    def used(self, Py_ssize_t row):
        """Slots of a row that are out; also for a removed node that still has some."""
        return self.row(row, RETIRED).used

    def cap(self, Py_ssize_t row):
        """Slots of a row."""
        return self.row(row, LIVE).cap

    def free(self, Py_ssize_t key):
        """Rows of a key that are available: ready and below their cap."""
        return self.key(key).free

    def members(self, Py_ssize_t key):
        """Rows of a key, available or not."""
        return self.key(key).members

    def statistics(self):
        """Counts over the whole table; `used` includes slots of removed nodes."""
        cdef Py_ssize_t i
        nodes = [i for i in range(self.row_count) if self.rows[i].state == LIVE]
        retired = [i for i in range(self.row_count) if self.rows[i].state == RETIRED]
        keys = [i for i in range(self.key_count) if self.keys[i].state == LIVE]
        return {
            "nodes": len(nodes),
            "ready": sum([self.rows[i].ready for i in nodes]),
            "retired": len(retired),
            "cap": sum([self.rows[i].cap for i in nodes]),
            "used": sum([self.rows[i].used for i in nodes + retired]),
            "keys": len(keys),
            "pools": sum([self.keys[i].count for i in keys]),
            "memberships": sum([self.keys[i].members for i in keys]),
        }

    def explain(
        self, Py_ssize_t key, uint64_t route, double audio_s, exclude=(), Py_ssize_t sticky=-1
    ):
        """Every row of a key as `select` would see it now, in the order of the ring; changes nothing."""
        cdef Request request
        cdef Key* entry = self.key(key)
        cdef uint64_t state = self.random
        cdef int32_t rank, number, i
        cdef Pool* pool
        cdef Entry* member
        cdef Row* node
        read_request(&request, route, audio_s, exclude, sticky)
        cdef Py_ssize_t chosen = self.choose(entry, key, &request)
        self.random = state
        found = []
        for rank in range(entry.count):
            number = <int32_t> ((route % <uint64_t> entry.count + rank) % <uint64_t> entry.count)
            pool = &entry.pools[number]
            for i in range(pool.size):
                member = &pool.entries[i]
                node = &self.rows[member.row]
                vetoes = {
                    "not_ready": not node.ready,
                    "at_capacity": node.used >= node.cap,
                    "excluded": excludes(&request, member.row),
                }
                found.append(
                    {
                        "row": member.row,
                        "node_id": self.node_ids[member.row],
                        "pool": number,
                        "rank": rank,
                        "overloaded": overloaded(entry, pool),
                        "used": node.used,
                        "cap": node.cap,
                        "speed": member.speed,
                        "backlog_s": node.backlog_s + node.open_s,
                        "penalty_s": node.penalty_s,
                        "finish_s": finish_s(node, member.speed, audio_s),
                        "vetoes": [veto for veto, holds in vetoes.items() if holds],
                        "sticky": member.row == sticky,
                        "selected": member.row == chosen,
                    }
                )
        return sorted(found, key=lambda candidate: (candidate["rank"], candidate["row"]))

    cdef Py_ssize_t choose(self, const Key* key, Py_ssize_t handle, const Request* request) noexcept:
        cdef int32_t start, number, low, high
        cdef int last, half
        cdef Entry* best
        if key.free == 0:
            return -1
        start = <int32_t> (request.route % <uint64_t> key.count)
        for last in range(2):
            for half in range(2):
                low = start if half == 0 else 0
                high = key.count if half == 0 else start
                number = next_open(key, low, high)
                while number < high:
                    if overloaded(key, &key.pools[number]) == last:
                        best = self.sample(&key.pools[number], request)
                        if best != NULL:
                            return request.sticky if self.keeps(key, handle, best, request) else best.row
                    number = next_open(key, number + 1, high)
        return -1

    cdef Entry* sample(self, const Pool* pool, const Request* request) noexcept:
        """The best of a few random available entries, of all if there are few; NULL if all are excluded."""
        cdef int32_t[CHOICES_ROOM] found
        cdef int32_t pos, i
        cdef int32_t size = pool.available
        cdef Entry* best = NULL
        cdef double finish, best_finish = INFINITY
        cdef bint few = size <= self.choices + request.excluded
        pos = draw(&self.random, size)
        for i in range(size if few else self.choices):
            if few:
                if i:
                    pos = pos + 1 if pos + 1 < size else 0
                if excludes(request, pool.entries[pos].row):
                    continue
            else:
                if i:
                    pos = draw(&self.random, size)
                while seen(found, i, pos) or excludes(request, pool.entries[pos].row):
                    pos = pos + 1 if pos + 1 < size else 0
                found[i] = pos
            finish = finish_s(&self.rows[pool.entries[pos].row], pool.entries[pos].speed, request.audio_s)
            if best == NULL or finish < best_finish:
                best = &pool.entries[pos]
                best_finish = finish
        return best

    cdef bint keeps(
        self, const Key* key, Py_ssize_t handle, const Entry* best, const Request* request
    ) noexcept:
        cdef Row* node
        cdef int32_t found
        cdef double finish, best_finish
        if not 0 <= request.sticky < self.row_count or excludes(request, request.sticky):
            return False
        node = &self.rows[request.sticky]
        if not available(node):
            return False
        found = find(node, handle)
        if found < 0:
            return False
        finish = finish_s(
            node, key.pools[node.links[found].pool].entries[node.links[found].pos].speed, request.audio_s
        )
        best_finish = finish_s(&self.rows[best.row], best.speed, request.audio_s)
        return finish <= sticky_ratio * best_finish or finish <= best_finish + sticky_margin_s

    cdef int unlink(self, Py_ssize_t key, Py_ssize_t row, int32_t link_at) except -1:
        cdef Key* entry = &self.keys[key]
        displace(self.rows, entry, &self.rows[row].links[link_at])
        drop_link(self.keys, &self.rows[row], link_at)
        entry.members -= 1
        reshard(self.rows, entry, self.fixed_pools or pool_count(entry.members, self.max_members))
        return 0

    cdef int recycle(self, Py_ssize_t row) except -1:
        if self.rows[row].state == RETIRED and self.rows[row].used == 0:
            self.rows[row].state = GONE
            self.node_ids[row] = None
            self.spare_rows.append(row)
        return 0

    cdef Row* row(self, Py_ssize_t row, State least) except NULL:
        if not 0 <= row < self.row_count or self.rows[row].state < least:
            raise KeyError(f"no row {row}")
        return &self.rows[row]

    cdef Key* key(self, Py_ssize_t key) except NULL:
        if not 0 <= key < self.key_count or self.keys[key].state != LIVE:
            raise KeyError(f"no key {key}")
        return &self.keys[key]

    cdef int32_t link(self, Py_ssize_t key, Py_ssize_t row) except -1:
        cdef int32_t found = find(self.row(row, LIVE), key)
        if found < 0:
            raise KeyError(f"row {row} is not in key {key}")
        return found


cdef int read_request(
    Request* request, uint64_t route, double audio_s, object exclude, Py_ssize_t sticky
) except -1:
    cdef int i
    request.route = route
    request.audio_s = checked_seconds(audio_s)
    request.sticky = sticky
    request.excluded = 0
    if exclude:
        if len(exclude) > EXCLUDED_ROOM:
            raise ValueError(f"at most {MAX_EXCLUDED} rows may be excluded")
        request.excluded = len(exclude)
        for i in range(request.excluded):
            request.exclude[i] = exclude[i]
    return 0
