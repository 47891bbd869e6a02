# benches/micro/bench_ring.py: lookup 3.6x, successors 2.4x.
"""The compiled twin of `ring_reference.Ring`: the points in one sorted C array, the owners in another."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int32_t, uint64_t

from xxhash import xxh3_64_intdigest as _hash


cdef class Ring:
    """See `ring_reference.Ring`."""

    cdef uint64_t* hashes
    cdef int32_t* owners  # the place in `ids` of each point's node
    cdef Py_ssize_t count
    cdef tuple ids
    cdef Py_ssize_t used  # nodes that have points

    def __cinit__(self, nodes, virtual_nodes=200):
        cdef Py_ssize_t i
        if virtual_nodes < 1:
            raise ValueError(f"virtual_nodes must be at least 1, got {virtual_nodes!r}")
        if len({id for id, _ in nodes}) != len(nodes):
            raise ValueError("the ids of nodes must be distinct")
        for id, weight in nodes:
            if not 0 <= weight <= 100:
                raise ValueError(f"the weight of {id!r} must be 0-100, got {weight!r}")
        # Equal points, rare as they are, go by id, so that the order of `nodes` never matters.
        self.ids = tuple(sorted(id for id, weight in nodes if weight))
        self.used = len(self.ids)
        place = {id: i for i, id in enumerate(self.ids)}
        points = sorted(
            (_hash(f"{id}#{i}".encode()), place[id])
            for id, weight in nodes
            for i in range(max(1, virtual_nodes * weight // 100) if weight else 0)
        )
        self.count = len(points)
        self.hashes = <uint64_t*>PyMem_Malloc(<size_t>self.count * sizeof(uint64_t))
        self.owners = <int32_t*>PyMem_Malloc(<size_t>self.count * sizeof(int32_t))
        if self.hashes == NULL or self.owners == NULL:
            raise MemoryError
        for i, (point, owner) in enumerate(points):
            self.hashes[i] = point
            self.owners[i] = owner

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
        cdef Py_ssize_t left = self.used
        cdef Py_ssize_t i
        cdef int32_t owner
        if left == 0:
            return
        cdef bytearray seen = bytearray(left)
        i = self.find(_hash(key))
        while left:
            owner = self.owners[i]
            i = i + 1 if i + 1 < self.count else 0
            if not seen[owner]:
                seen[owner] = 1
                left -= 1
                yield self.ids[owner]

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
