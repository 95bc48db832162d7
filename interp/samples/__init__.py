"""What does a model write, and what can be measured of a text?"""

from interp.samples.writing import Sample, Writing, write

__all__ = ["Sample", "Writing", "write"]
