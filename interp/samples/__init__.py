"""What does a model write, and what can be counted in it?

writings = [
    write(model, prompts, 200, variant="as it is"),
    write(model, prompts, 200, variant="no MLP", interventions={"blocks.0.hook_mlp_out": Zero()}),
]
measured = measure_texts(tables_of(writings), KnownText(training_text))
compare_samples(measured, baseline="as it is")
"""

from interp.samples.comparing import COMPARED, compare_samples
from interp.samples.known_text import KnownText
from interp.samples.measures import MEASURES, Measure, measure_texts
from interp.samples.writing import Sample, Writing, tables_of, write

__all__ = [
    "COMPARED",
    "MEASURES",
    "KnownText",
    "Measure",
    "Sample",
    "Writing",
    "compare_samples",
    "measure_texts",
    "tables_of",
    "write",
]
