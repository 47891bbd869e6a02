# benches/micro/bench_ring.py: lookup 5.3x, second choice 1.6x, all successors 8x, build 3.6x.
"""The compiled twin of `ring_reference.Ring`: the points in one sorted C array, the owners in another."""

cimport cython
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport qsort

from xxhash import xxh3_64_intdigest as _hash

cdef enum:
    WEIGHT_UNIT = 10

cdef struct Point:
    uint64_t hash
    int32_t owner


cdef int compare(const void* a, const void* b) noexcept nogil:
    cdef const Point* left = <const Point*>a
    cdef const Point* right = <const Point*>b
    if left.hash != right.hash:
        return -1 if left.hash < right.hash else 1
    return (left.owner > right.owner) - (left.owner < right.owner)


@cython.final
cdef class Ring:
    """See `ring_reference.Ring`."""

    cdef uint64_t* hashes
    cdef int32_t* owners  # the place in `ids` of each point's node
    cdef Py_ssize_t count
    cdef tuple ids
    cdef Py_ssize_t used  # nodes that have points

    def __cinit__(self, nodes, virtual_nodes=200):
        if virtual_nodes < 1:
            raise ValueError(f"virtual_nodes must be at least 1, got {virtual_nodes!r}")
        if len({id for id, _ in nodes}) != len(nodes):
            raise ValueError("the ids of nodes must be distinct")
        for id, weight in nodes:
            if not 0 <= weight <= 100:
                raise ValueError(f"the weight of {id!r} must be 0-100, got {weight!r}")
        # Equal points, rare as they are, go by id, so that the order of `nodes` never matters.
        used = sorted((id, max(1, virtual_nodes * weight // WEIGHT_UNIT)) for id, weight in nodes if weight)
        self.ids = tuple(id for id, _ in used)
        self.used = len(self.ids)
        self.count = sum(points for _, points in used)
        self.hashes = <uint64_t*>PyMem_Calloc(<size_t>self.count, sizeof(uint64_t))
        self.owners = <int32_t*>PyMem_Calloc(<size_t>self.count, sizeof(int32_t))
        if self.hashes == NULL or self.owners == NULL:
            raise MemoryError
        self.place_points([points for _, points in used])

    cdef int place_points(self, list counts) except -1:
        cdef Py_ssize_t i = 0
        cdef int32_t owner
        cdef Point* points = <Point*>PyMem_Calloc(<size_t>self.count, sizeof(Point))
        if points == NULL:
            raise MemoryError
        try:
            for owner in range(<int32_t>self.used):
                for number in range(counts[owner]):
                    points[i].hash = _hash(f"{self.ids[owner]}#{number}".encode())
                    points[i].owner = owner
                    i += 1
            qsort(points, <size_t>self.count, sizeof(Point), compare)
            for i in range(self.count):
                self.hashes[i] = points[i].hash
                self.owners[i] = points[i].owner
        finally:
            PyMem_Free(points)
        return 0

    def __dealloc__(self):
        PyMem_Free(self.hashes)
        PyMem_Free(self.owners)

    def lookup(self, bytes key not None):
        """See `ring_reference.Ring.lookup`."""
        if self.count == 0:
            return None
        return self.ids[self.owners[self.find(_hash(key))]]

    def successors(self, bytes key not None):
        """See `ring_reference.Ring.successors`."""
        cdef _Successors successors = _Successors.__new__(_Successors)
        successors.ring = self
        successors.left = self.used
        successors.seen = bytearray(self.used)
        successors.position = self.find(_hash(key)) if self.used else 0
        return successors

    cdef Py_ssize_t find(self, uint64_t point) noexcept:
        """Return the place of the first point that is not below `point`, around the end of the ring."""
        cdef Py_ssize_t low = 0
        cdef Py_ssize_t high = self.count
        cdef Py_ssize_t middle
        while low < high:
            middle = low + (high - low) // 2
            if self.hashes[middle] < point:
                low = middle + 1
            else:
                high = middle
        return low if low < self.count else 0


@cython.final
cdef class _Successors:
    """The walk from a key's node to the others; not a generator, because to leave one of those early is slow."""

    cdef Ring ring
    cdef Py_ssize_t position
    cdef Py_ssize_t left
    cdef bytearray seen

    def __iter__(self):
        return self

    def __next__(self):
        cdef Ring ring = self.ring
        cdef int32_t owner
        while self.left:
            owner = ring.owners[self.position]
            self.position = self.position + 1 if self.position + 1 < ring.count else 0
            if not self.seen[owner]:
                self.seen[owner] = 1
                self.left -= 1
                return ring.ids[owner]
        raise StopIteration
