"""Documents out of files: how to find them, what kind they are, and their characters."""

from interp.curation.reading.documents import read_documents
from interp.curation.reading.finding import identify_pile

__all__ = ["identify_pile", "read_documents"]
