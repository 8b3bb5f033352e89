"""Reading networks that other codes have trained into equicalc's own modules."""

from equicalc.interop.imported import KINDS, Imported, import_network

__all__ = ["KINDS", "Imported", "import_network"]
