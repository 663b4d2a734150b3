# cython: language_level=3, cdivision=True
"""Pool hashing and node selection, compiled: the same answers as `_hash_py.py`, which tells the rules.

`_table.pxd` says how the table lies in memory, `_classes.pxd` keeps it in order, `_choice.pxd` chooses. A change
of a row costs a bit, a few sums of its pool and class, and now and then three words for each of its keys.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from linguad._choice cimport *
from linguad._classes cimport *
from linguad._copy cimport copy_table, free_table
from linguad._fnv cimport hash_of
from linguad._table cimport *

from linguad import _classes_py, _hash_py
from linguad._hash_py import POOL_LADDER, pool_probe_order, ring_order_ids
from linguad._limits import MAX_CAP, MAX_CHOICES, MAX_EXCLUDED, POLICIES, check_table, checked_cap, checked_speed

if (
    (EXCLUDED_ROOM, CHOICES_ROOM, SCARCE_PART, DRAWS, LOOKS, THIN_PART)
    != (MAX_EXCLUDED, MAX_CHOICES, *_hash_py.RULES)
    or (OVERLOAD_RATIO, TOLD_PART, DRAFTS_ROOM) != _classes_py.RULES
    or len(POOL_LADDER) > LADDER_ROOM
):
    raise ImportError("linguad._hash was built for other numbers than those of its twin; build it again")


def fnv1a64(key, uint64_t seed):
    """64-bit FNV-1a of the key (text as UTF-8) followed by the seed as 8 bytes, least significant first."""
    return hash_of(key, seed)


def pool_id_for_key(int64_t count, uint64_t seed, key):
    """The pool, 0 to count - 1, in which a node or a job belongs; a count below 1 means 1."""
    return hash_of(key, seed) % <uint64_t> max(count, 1)


def pick_index_for_key(int64_t n, uint64_t seed, key):
    """The index, 0 to n - 1, that a key prefers in a list of n; n below 1 means 1."""
    return hash_of(key, seed) % <uint64_t> max(n, 1)


def pool_count_for(int64_t members, int64_t max_members=100):
    """The smallest number of the ladder that gives pools of at most `max_members` on average."""
    if max_members < 1:
        raise ValueError("max_members must be at least 1")
    for count in POOL_LADDER:
        if count * max_members >= members:
            return count
    return POOL_LADDER[-1]


cdef inline double checked_seconds(double seconds) except -1.0:
    if not 0.0 <= seconds < INFINITY:
        raise ValueError("seconds must be a finite number, 0 or more")
    return seconds


cdef class NodeTable:
    """Slots and loads of all nodes, and the choice of a node for a job (see `_hash_py.NodeTable`)."""

    cdef Table table
    cdef uint64_t hash_seed
    cdef list node_ids
    cdef list spare_rows
    cdef list spare_keys
    cdef dict by_keys  # classes that are listed: the bytes of their keys to their number

    def __cinit__(
        self,
        *,
        uint64_t hash_seed=0,
        uint64_t rng_seed=1,
        int choices=3,
        int64_t max_members=100,
        int32_t pools=0,
        str policy not None="expected_finish",
        double sticky_ratio=1.5,
        double sticky_margin_s=1.0,
    ):
        check_table(choices, max_members, pools, policy, sticky_ratio, sticky_margin_s)
        self.table.policy = POLICIES.index(policy)
        self.table.sticky_ratio = sticky_ratio
        self.table.sticky_margin_s = sticky_margin_s
        self.hash_seed = hash_seed
        self.table.choices = choices
        self.table.max_members = max_members
        self.table.fixed_pools = pools
        self.table.ladder_size = len(POOL_LADDER)
        for i, count in enumerate(POOL_LADDER):
            self.table.ladder[<int> i] = count
        self.table.random = hash_of(b"node table", rng_seed) or 1
        self.node_ids = []
        self.spare_rows = []
        self.spare_keys = []
        self.by_keys = {}
        self.place(new_class(&self.table))  # number 0: the rows that are in no key

    def __dealloc__(self):
        free_table(&self.table)

    def copy(self):
        """A table in the same state, which draws the same random numbers and then goes its own way."""
        cdef NodeTable made = NodeTable()
        free_table(&made.table)
        copy_table(&made.table, &self.table)
        made.hash_seed, made.by_keys = self.hash_seed, self.by_keys.copy()
        made.node_ids, made.spare_rows, made.spare_keys = self.node_ids[:], self.spare_rows[:], self.spare_keys[:]
        return made

    def add_node(self, str node_id not None, int64_t cap):
        """A row for a node with `cap` slots, not ready and in no key; rows of removed nodes are reused."""
        cdef Table* table = &self.table
        cdef Member made
        memset(&made, 0, sizeof(Member))
        made.hash = hash_of(node_id, self.hash_seed)
        made.cap = checked_cap(cap)
        if not self.spare_rows:
            table.places = <Place*> with_room(table.places, table.row_count, sizeof(Place))
            table.places[table.row_count] = Place(-1, 0, 0)
            self.node_ids.append(None)
            self.spare_rows.append(table.row_count)
            table.row_count += 1
        made.row = self.spare_rows[-1]
        resize(table, 0, 1)
        cdef Class* home = &table.classes[0]
        cdef Pool* pool = pool_at(home, <int32_t> (made.hash % <uint64_t> home.count))
        make_room(pool, pool.size + 1, sizeof(Member))
        put(table, 0, &made, sizeof(Member))
        self.node_ids[made.row] = node_id
        return self.spare_rows.pop()

    def remove_node(self, Py_ssize_t row):
        """Take a node out of all keys; `release` still works, and the row is reused after its last slot."""
        cdef Member* member = self.member(row, False)
        cdef Class* home = self.home(row)
        cdef int32_t i
        if self.table.places[row].number:
            for i in range(home.size):
                self.table.sums[home.keys[i]].members -= 1
            self.move_row(row, 0)
            member = member_of(&self.table, row)
        change(&self.table, self.table.places[row], member.used, member.cap, False)
        member.retired = True
        self.recycle(row)

    def set_cap(self, Py_ssize_t row, int64_t cap):
        """Change a node's slots; slots above the new cap stay out until they are released."""
        cdef Member* member = self.member(row, False)
        change(&self.table, self.table.places[row], member.used, checked_cap(cap), member.ready)

    def set_ready(self, Py_ssize_t row, bint ready):
        """A row that is not ready is never chosen; its slots stay out until they are released."""
        cdef Member* member = self.member(row, False)
        change(&self.table, self.table.places[row], member.used, member.cap, ready)

    def set_load(self, Py_ssize_t row, double backlog_s, double penalty_s):
        """The reported backlog in audio seconds (without our open attempts) and the penalty in seconds."""
        cdef Member* member = self.member(row, False)
        checked_seconds(backlog_s)
        checked_seconds(penalty_s)
        member.backlog_s = backlog_s
        member.penalty_s = penalty_s

    def add_key(self):
        """A handle for a new index key without rows; handles of removed keys are reused."""
        cdef Table* table = &self.table
        if not self.spare_keys:
            table.keys = <Key*> with_room(table.keys, table.key_count, sizeof(Key))
            table.sums = <Sums*> with_room(table.sums, table.key_count, sizeof(Sums))
            memset(&table.keys[table.key_count], 0, sizeof(Key))
            self.spare_keys.append(table.key_count)
            table.key_count += 1
        cdef Py_ssize_t key = self.spare_keys.pop()
        memset(&table.sums[key], 0, sizeof(Sums))
        table.keys[key].exists = True
        return key

    def remove_key(self, Py_ssize_t key):
        """Forget a key; its rows keep their slots and their other keys."""
        cdef Key* entry = self.key(key)
        cdef int32_t number
        self.settle()
        while entry.count:
            number = entry.tickets[entry.count - 1].number
            self.forget(number)
            drop_column(&self.table, number, column_of(&self.table.classes[number], key))
            self.place(number)
        PyMem_Free(entry.tickets)
        PyMem_Free(entry.bits)
        memset(entry, 0, sizeof(Key))
        self.spare_keys.append(key)

    def join(self, Py_ssize_t key, Py_ssize_t row, double speed=1.0):
        """Make a row eligible for a key, at `speed` audio seconds per second."""
        self.key(key)
        self.member(row, False)
        cdef int32_t column = column_of(self.home(row), key)
        if column >= 0:
            raise ValueError(f"row {row} is already in key {key}")
        checked_speed(speed)
        self.make_draft(row)
        add_column(&self.table, self.table.places[row].number, <int32_t> key, -1 - column, speed)
        self.table.sums[key].members += 1

    def leave(self, Py_ssize_t key, Py_ssize_t row):
        """Take a row out of a key."""
        self.key(key)
        cdef int32_t column = self.column(key, row)
        self.make_draft(row)
        drop_column(&self.table, self.table.places[row].number, column)
        self.table.sums[key].members -= 1

    def set_speed(self, Py_ssize_t key, Py_ssize_t row, double speed):
        """Change the speed of a row in a key."""
        self.key(key)
        cdef int32_t column = self.column(key, row)
        speeds_of(member_of(&self.table, row))[column] = checked_speed(speed)

    def select(
        self, Py_ssize_t key, uint64_t route, double audio_s, exclude=(), Py_ssize_t sticky=-1
    ):
        """Choose a row for `audio_s` seconds of audio and take one of its slots; -1 when nobody is free."""
        cdef Request request
        self.read(&request, key, route, audio_s, exclude, sticky)
        cdef Place chosen = choose(&self.table, &request)
        return -1 if chosen.number < 0 else self.take_slot(chosen, audio_s)

    def take(self, Py_ssize_t row, double audio_s, int64_t extra=0):
        """Take a slot of exactly this row if it is ready and uses less than cap + extra."""
        cdef Member* member = self.member(row, False)
        checked_seconds(audio_s)
        if extra < 0:
            raise ValueError("extra must not be negative")
        if not member.ready or member.used >= member.cap + extra:
            return False
        self.take_slot(self.table.places[row], audio_s)
        return True

    def release(self, Py_ssize_t row, double audio_s):
        """Give a slot back, with the audio seconds it was taken for; also for a removed node."""
        cdef Member* member = self.member(row, True)
        checked_seconds(audio_s)
        if member.used == 0:
            raise ValueError(f"row {row} has no slot to release")
        member.open_s -= audio_s
        if member.used == 1 or member.open_s < 0.0:
            member.open_s = 0.0
        change(&self.table, self.table.places[row], member.used - 1, member.cap, member.ready)
        if member.retired:
            self.recycle(row)

    def used(self, Py_ssize_t row):
        """Slots of a row that are out; also for a removed node that still has some."""
        return self.member(row, True).used

    def cap(self, Py_ssize_t row):
        """Slots of a row."""
        return self.member(row, False).cap

    def where(self, Py_ssize_t row):
        """The class of a row, its pool there, and how many pools the class has."""
        self.member(row, False)
        self.settle()
        cdef Place at = self.table.places[row]
        return at.number, at.pool, self.table.classes[at.number].count

    def free(self, Py_ssize_t key):
        """Rows of a key that are available: ready and below their cap."""
        cdef Key* entry = self.key(key)
        cdef int32_t i
        self.settle()
        return sum([self.table.classes[entry.tickets[i].number].free for i in range(entry.count)])

    def has_free(self, Py_ssize_t key):
        """Whether a row of a key is available; takes no longer the more rows there are."""
        self.key(key)
        self.settle()
        return self.table.sums[key].open > 0

    def ready_slots(self, Py_ssize_t key):
        """Slots of the ready rows of a key, taken or not; takes no longer the more rows there are."""
        self.key(key)
        self.settle()
        return self.table.sums[key].cap

    def members(self, Py_ssize_t key):
        """Rows of a key, available or not."""
        self.key(key)
        return self.table.sums[key].members

    def statistics(self):
        """Counts over the whole table; `used` includes slots of removed nodes, `pools` are of all classes."""
        cdef Table* table = &self.table
        cdef Py_ssize_t i
        self.settle()
        rows = [i for i in range(table.row_count) if table.places[i].number >= 0]
        nodes = [i for i in rows if not member_of(table, i).retired]
        keys = [i for i in range(table.key_count) if table.keys[i].exists]
        return {
            "nodes": len(nodes),
            "ready": sum([member_of(table, i).ready for i in nodes]),
            "retired": len(rows) - len(nodes),
            "cap": sum([member_of(table, i).cap for i in nodes]),
            "used": sum([member_of(table, i).used for i in rows]),
            "keys": len(keys),
            "pools": sum([table.classes[i].count for i in range(1, table.class_count)]),
            "memberships": sum([table.sums[i].members for i in keys]),
        }

    def explain(
        self, Py_ssize_t key, uint64_t route, double audio_s, exclude=(), Py_ssize_t sticky=-1
    ):
        """Every row of a key as `select` would see it now, in the order of the rings; changes nothing."""
        cdef Table* table = &self.table
        cdef Request request
        cdef uint64_t state = table.random
        cdef Place chosen
        cdef int32_t i, number, rank, slot, start
        cdef Class* home
        cdef Pool* pool
        cdef Member* member
        self.read(&request, key, route, audio_s, exclude, sticky)
        chosen = choose(table, &request)
        table.random = state
        cdef Member* best = member_in(table, chosen) if chosen.number >= 0 else NULL
        found = []
        for i in range(table.keys[key].count):
            home = &table.classes[table.keys[key].tickets[i].number]
            start = <int32_t> (route % <uint64_t> home.count)
            for number in range(home.count):
                pool = pool_at(home, number)
                rank = number - start if number >= start else number - start + home.count
                for slot in range(pool.size):
                    member = member_at(home, pool, slot)
                    speed = speeds_of(member)[table.keys[key].tickets[i].column]
                    vetoes = {
                        "not_ready": not member.ready,
                        "at_capacity": member.used >= member.cap,
                        "excluded": excludes(&request, member.row),
                    }
                    found.append(
                        {
                            "row": member.row,
                            "node_id": self.node_ids[member.row],
                            "class": table.keys[key].tickets[i].number,
                            "pool": number,
                            "rank": rank,
                            "overloaded": overloaded(&table.sums[key], pool.used, pool.cap),
                            "used": member.used,
                            "cap": member.cap,
                            "speed": speed,
                            "backlog_s": member.backlog_s + member.open_s,
                            "penalty_s": member.penalty_s,
                            "finish_s": finish_s(member, speed, audio_s),
                            "vetoes": [veto for veto, holds in vetoes.items() if holds],
                            "sticky": member.row == sticky,
                            "selected": member == best,
                        }
                    )
        return sorted(found, key=lambda candidate: (candidate["rank"], candidate["row"]))

    cdef int make_draft(self, Py_ssize_t row) except -1:
        """Put a row whose keys are about to change into an unlisted class of its own."""
        cdef Table* table = &self.table
        cdef Class* home
        cdef int32_t number, size
        if not self.home(row).listed:
            return 0
        if table.draft_count == DRAFTS_ROOM:
            self.settle()
        number = new_class(table)
        home = self.home(row)
        try:
            size = home.size
            table.classes[number].keys = <int32_t*> resized(NULL, (size + 1) * sizeof(int32_t))
            if size:
                memcpy(table.classes[number].keys, home.keys, size * sizeof(int32_t))
            table.classes[number].size = size
            self.move_row(row, number)
        except MemoryError:
            drop_class(table, number)
            raise
        table.drafts[table.draft_count] = number
        table.draft_count += 1
        return 0

    cdef int settle(self) except -1:
        """Find the classes of the rows in drafts."""
        cdef Table* table = &self.table
        while table.draft_count:
            self.place(table.drafts[0])
        return 0

    cdef int place(self, int32_t number) except -1:
        """List a class, or move its rows to the one with the same keys; a draft is none any more."""
        cdef Table* table = &self.table
        cdef Class* home = &table.classes[number]
        cdef Pool* pool
        cdef int32_t i = home.count - 1
        keys = PyBytes_FromStringAndSize(<char*> home.keys, home.size * sizeof(int32_t))
        known = self.by_keys.setdefault(keys, number)
        if known != number:
            for _ in range(home.members):
                while pool_at(home, i).size == 0:
                    i -= 1
                pool = pool_at(home, i)
                self.move_row(member_at(home, pool, pool.size - 1).row, known)
            return 0
        try:
            shard(table, number, pool_count(table, home.members))
            enlist(table, number)
        except MemoryError:
            del self.by_keys[keys]
            raise
        drop_draft(table, number)
        return 0

    cdef int move_row(self, Py_ssize_t row, int32_t number) except -1:
        """Move a row to another class; the one it leaves is dropped if it is empty."""
        cdef int32_t left = self.table.places[row].number
        move(&self.table, row, number)
        if left and self.table.classes[left].members == 0:
            if self.table.classes[left].listed:
                self.forget(left)
            drop_draft(&self.table, left)
            drop_class(&self.table, left)
        return 0

    cdef int forget(self, int32_t number) except -1:
        """Take a class out of the lists."""
        cdef Class* home = &self.table.classes[number]
        del self.by_keys[PyBytes_FromStringAndSize(<char*> home.keys, home.size * sizeof(int32_t))]
        delist(&self.table, number)
        return 0

    cdef int32_t take_slot(self, Place at, double audio_s) noexcept:
        cdef Member* member = member_in(&self.table, at)
        member.open_s += audio_s
        change(&self.table, at, member.used + 1, member.cap, member.ready)
        return member.row

    cdef int recycle(self, Py_ssize_t row) except -1:
        if member_of(&self.table, row).used == 0:
            cut(&self.table, self.table.places[row])
            self.table.places[row].number = -1
            self.node_ids[row] = None
            self.spare_rows.append(row)
        return 0

    cdef Class* home(self, Py_ssize_t row) noexcept:
        return &self.table.classes[self.table.places[row].number]

    cdef Member* member(self, Py_ssize_t row, bint retired) except NULL:
        cdef Member* found
        if 0 <= row < self.table.row_count and self.table.places[row].number >= 0:
            found = member_of(&self.table, row)
            if retired or not found.retired:
                return found
        raise KeyError(f"no row {row}")

    cdef Key* key(self, Py_ssize_t key) except NULL:
        if not 0 <= key < self.table.key_count or not self.table.keys[key].exists:
            raise KeyError(f"no key {key}")
        return &self.table.keys[key]

    cdef int32_t column(self, Py_ssize_t key, Py_ssize_t row) except -1:
        self.member(row, False)
        cdef int32_t found = column_of(self.home(row), key)
        if found < 0:
            raise KeyError(f"row {row} is not in key {key}")
        return found

    cdef int read(
        self, Request* request, Py_ssize_t key, uint64_t route, double audio_s, object exclude, Py_ssize_t sticky
    ) except -1:
        """Check and note what is asked for, and make the table ready for it."""
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
        self.key(key)
        request.key = <int32_t> key
        if self.table.draft_count:
            self.settle()
        return 0
