"""Reading labelled structures, graphs, batches and the statistics a model starts from."""

from equicalc.data.batch import Batch, collate, make_sample
from equicalc.data.structures import Structure, from_atoms, read_structures

__all__ = ["Batch", "Structure", "collate", "from_atoms", "make_sample", "read_structures"]
