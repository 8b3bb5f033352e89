"""From a trained network to one file that every front end loads."""

from equicalc.deploy.export import export_network, export_run
from equicalc.deploy.metadata import FORMAT_VERSION, read_metadata
from equicalc.deploy.reading import is_model_file, read_network

__all__ = [
    "FORMAT_VERSION",
    "export_network",
    "export_run",
    "is_model_file",
    "read_metadata",
    "read_network",
]
