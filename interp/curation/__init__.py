"""What does each step of cleaning a text do? Documents in, a text with histories out.

pipeline = Pipeline.default()
curated = run_pipeline(pipeline, read_documents([folder]), Path("curated"))
curated.histories          # what each step did to each document
"""

from interp.curation.documents import Document, Skipped, Tally, identify_document, make_document
from interp.curation.near import cluster_documents
from interp.curation.pipeline import Pipeline, Step
from interp.curation.running import Curated, run_pipeline
from interp.curation.steps import STEPS, whole_pile

__all__ = [
    "STEPS",
    "Curated",
    "Document",
    "Pipeline",
    "Skipped",
    "Step",
    "Tally",
    "cluster_documents",
    "identify_document",
    "make_document",
    "run_pipeline",
    "whole_pile",
]
