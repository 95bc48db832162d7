"""Documents out of files: how to find them, what kind they are, and their characters."""

from interp.curation.reading.documents import read_documents

__all__ = ["read_documents"]
