"""From a trained network to one file that every front end loads."""

from equicalc.deploy.export import export_network, export_run
from equicalc.deploy.metadata import FORMAT_VERSION, read_metadata

__all__ = ["FORMAT_VERSION", "export_network", "export_run", "read_metadata"]
