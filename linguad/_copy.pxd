# cython: language_level=3, cdivision=True
"""A copy of a table that goes its own way: whoever wants to know what would be tries it there.

Blocks get the room that `with_room` believes they have.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy, memset

from linguad._classes cimport free_pools
from linguad._table cimport *


cdef inline void free_table(Table* table) noexcept:
    """Give back all that a table holds, and forget it."""
    cdef Py_ssize_t i
    for i in range(table.class_count):
        if table.classes[i].exists:
            free_pools(&table.classes[i])
            PyMem_Free(table.classes[i].keys)
            PyMem_Free(table.classes[i].tickets)
    for i in range(table.key_count):
        PyMem_Free(table.keys[i].tickets)
        PyMem_Free(table.keys[i].bits)
    PyMem_Free(table.places)
    PyMem_Free(table.keys)
    PyMem_Free(table.sums)
    PyMem_Free(table.classes)
    PyMem_Free(table.open)
    PyMem_Free(table.open_words)
    PyMem_Free(table.spare_classes)
    PyMem_Free(table.shares)
    memset(table, 0, sizeof(Table))


cdef inline void* copied(const void* block, size_t used, size_t room) except? NULL:
    """A block of so many bytes, the first ones as in another; NULL if there is no other."""
    if block == NULL:
        return NULL
    cdef void* made = resized(NULL, room)
    memcpy(made, block, used)
    return made


cdef inline void* empty(size_t count, size_t size) except NULL:
    cdef void* made = PyMem_Calloc(count, size)
    if made == NULL:
        raise MemoryError()
    return made


cdef inline size_t room_for(size_t count) noexcept:
    """The room of a block of so many, as `with_room` makes it."""
    cdef size_t room = 4
    while room < count:
        room *= 2
    return room


cdef inline int copy_pool(Pool* new, const Pool* old, size_t stride) except -1:
    cdef size_t bits = ((old.room + 63) >> 6) * sizeof(uint64_t)
    new[0] = old[0]
    new.members = NULL
    new.far_bits = NULL
    new.members = <char*> copied(old.members, old.size * stride, old.room * stride)
    new.far_bits = <uint64_t*> copied(old.far_bits, bits, bits)
    return 0


cdef inline void make_blank(Class* home) noexcept:
    """Take the blocks of another class from what is a copy of it."""
    memset(&home.only, 0, sizeof(Pool))
    home.pools = NULL
    home.open = NULL
    home.keys = NULL
    home.tickets = NULL
    home.count = 1


cdef inline int copy_class(Class* new, Class* old) except -1:
    """Copy a class over an empty one, which is whole at any time."""
    cdef int32_t i
    cdef size_t size = sizeof(int32_t)
    cdef Class made = old[0]
    make_blank(&made)
    new[0] = made
    new.keys = <int32_t*> copied(old.keys, old.size * size, (old.size + 1) * size)
    new.tickets = <int32_t*> copied(old.tickets, old.size * size, (old.size + 1) * size)
    if old.count > 1:
        new.open = <uint64_t*> copied(old.open, (old.count + 63) // 64 * 8, (old.count + 63) // 64 * 8)
        new.pools = <Pool*> empty(old.count, sizeof(Pool))
        new.count = old.count
    for i in range(old.count):
        copy_pool(pool_at(new, i), pool_at(old, i), stride_of(old))
    return 0


cdef inline int copy_key(Key* new, const Key* old) except -1:
    new[0] = old[0]
    new.tickets = NULL
    new.bits = NULL
    new.tickets = <Ticket*> copied(old.tickets, old.count * sizeof(Ticket), room_for(old.count) * sizeof(Ticket))
    new.bits = <uint64_t*> copied(old.bits, old.words * sizeof(uint64_t), old.words * sizeof(uint64_t))
    return 0


cdef inline int copy_table(Table* new, Table* old) except -1:
    """Copy a table over an empty one, which can be freed at any time."""
    cdef Py_ssize_t i
    cdef size_t rows = room_for(old.row_count)
    cdef size_t keys = room_for(old.key_count)
    cdef size_t classes = room_for(old.class_count)
    cdef size_t words = (old.class_count + 63) >> 6
    cdef size_t summary = ((words + 63) >> 6) * sizeof(uint64_t)
    cdef Table made = old[0]
    made.places = NULL
    made.keys = NULL
    made.sums = NULL
    made.classes = NULL
    made.open = NULL
    made.open_words = NULL
    made.spare_classes = NULL
    made.shares = NULL
    made.key_count = made.class_count = 0
    new[0] = made
    new.places = <Place*> copied(old.places, old.row_count * sizeof(Place), rows * sizeof(Place))
    new.sums = <Sums*> copied(old.sums, old.key_count * sizeof(Sums), keys * sizeof(Sums))
    new.open = <uint64_t*> copied(old.open, words * sizeof(uint64_t), words * sizeof(uint64_t))
    new.open_words = <uint64_t*> copied(old.open_words, summary, summary)
    new.spare_classes = <int32_t*> copied(
        old.spare_classes, old.spare_count * sizeof(int32_t), classes * sizeof(int32_t)
    )
    new.shares = <int64_t*> copied(old.shares, 0, old.shares_room * sizeof(int64_t))
    if old.keys != NULL:
        new.keys = <Key*> empty(keys, sizeof(Key))
        new.key_count = old.key_count
    for i in range(old.key_count):
        copy_key(&new.keys[i], &old.keys[i])
    new.classes = <Class*> empty(classes, sizeof(Class))
    new.class_count = old.class_count
    for i in range(old.class_count):
        if old.classes[i].exists:
            copy_class(&new.classes[i], &old.classes[i])
    return 0
