"""Weights at this trainer: pulled after a step, and put when the program has written to them."""

from ._library import EquishardUsageError, call
from .fingerprints import Fingerprints, addresses

_CHUNK_BYTES = 16 << 20  # of weights for a GPU: it gets some while the library waits for the next


def _chunks(parameters):
    """Parameters in pieces of the order of _CHUNK_BYTES, those on the host in one."""
    chunks, size = [[]], 0
    for parameter in parameters:
        if size >= _CHUNK_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(parameter)
        size += parameter.bytes if parameter.staged else 0
    return [chunk for chunk in chunks if chunk]


class Weights:
    """
    trained       parameters whose weights come from the owners after every step
    frozen        others that the owners hold
    fingerprints  whether to look at values for what the program writes, and not only at torch's counter of writes, which
                  does not see `tensor.data`
    """

    def __init__(self, trained, frozen, fingerprints):
        self._watched = [*trained, *frozen]
        self._tensors = [parameter.tensor for parameter in self._watched]
        self._pieces = self._pieces_of(trained)
        self._pointers, self._versions = self._state()
        self._looked_at = None  # pointers and versions at the step's first gradient
        self._fingerprints = Fingerprints(self._tensors, [p.staged for p in self._watched]) if fingerprints else None
        self._all_changed = False

    def _state(self):
        return [tensor.data_ptr() for tensor in self._tensors], [tensor._version for tensor in self._tensors]

    @staticmethod
    def _pieces_of(parameters):
        return [(chunk, addresses([parameter.handle.value for parameter in chunk])) for chunk in _chunks(parameters)]

    def mark_all(self):
        """The program says that it has written to weights."""
        self._all_changed = True

    def pull(self, with_frozen=False):
        pieces = self._pieces_of(self._watched) if with_frozen else self._pieces
        for chunk, handles in pieces:
            memories = [parameter.memory_for_weight() for parameter in chunk]
            call("eqs_pull_many", len(chunk), handles, addresses([memory.data_ptr() for memory in memories]))
            for parameter, memory in zip(chunk, memories):
                parameter.take(memory)
        for parameter in {p.tensor.device: p for p in self._watched if p.staged}.values():
            parameter.wait()

    def remember(self):
        """The weights are as they are to be: what is different later is the program's doing."""
        pointers, self._versions = self._state()
        moved, self._pointers = pointers != self._pointers, pointers
        if self._fingerprints is not None:
            if moved:
                self._fingerprints.locate()
            self._fingerprints.renew()

    def look(self):
        """Begin to look for what was written. On a GPU nobody waits for the answer yet."""
        self._looked_at = self._state()
        if self._fingerprints is not None:
            if self._looked_at[0] != self._pointers:
                self._fingerprints.locate()
            self._fingerprints.look()

    def _written(self):
        """Parameters that have been written to, by the last `look`."""
        pointers, versions = self._looked_at
        written = set()
        if versions != self._versions or pointers != self._pointers:
            written.update(k for k in range(len(pointers))
                           if versions[k] != self._versions[k] or pointers[k] != self._pointers[k])
        if self._fingerprints is not None:
            written.update(self._fingerprints.differing())
        return [self._watched[k] for k in sorted(written)]

    def put_written(self):
        """Before the first gradient of a step: what the program has written becomes the owners' weight."""
        written = self._written()
        for parameter in self._watched if self._all_changed else written:
            parameter.put_weight = parameter.memory_to_put()
            call("eqs_put", parameter.handle, parameter.put_weight.data_ptr())
        self._all_changed = False
        if self._fingerprints is not None:
            self._fingerprints.adopt()
        self._pointers, self._versions = self._looked_at

    def refuse_later_writes(self):
        """Before a step whose gradients were pushed earlier: some owners have updated the weight that was."""
        self.look()
        written = self._written()
        if written:
            raise EquishardUsageError(
                f"the weight of '{written[0].name}' was written to after backward had pushed gradients, before step: write "
                "to weights before backward or after step, or make the optimizer with push_in_backward=False")

    def release(self):
        for parameter in self._watched:
            parameter.put_weight = None
