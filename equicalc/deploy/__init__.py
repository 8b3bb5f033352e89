"""From a trained network to one file that every front end loads."""

from equicalc.deploy.export import export_network
from equicalc.deploy.metadata import FORMAT_VERSION, read_metadata

__all__ = ["FORMAT_VERSION", "export_network", "read_metadata"]
