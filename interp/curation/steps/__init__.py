"""The steps of a pipeline: each a function on documents, in a file for each idea."""

from collections.abc import Callable, Iterator

from interp.curation.documents import Document
from interp.curation.steps.duplicates import drop_exact_duplicates, drop_near_duplicates
from interp.curation.steps.filters import filter_lengths, filter_quality
from interp.curation.steps.languages import filter_languages
from interp.curation.steps.licences import note_licences
from interp.curation.steps.markup import strip_markup
from interp.curation.steps.needs import whole_pile
from interp.curation.steps.normalising import normalise
from interp.curation.steps.private import mask_private, mask_secrets
from interp.curation.steps.splitting import split_documents

STEPS: dict[str, Callable[..., Iterator[Document]]] = {
    "normalise": normalise,
    "markup": strip_markup,
    "language": filter_languages,
    "exact_duplicates": drop_exact_duplicates,
    "near_duplicates": drop_near_duplicates,
    "private": mask_private,
    "secrets": mask_secrets,
    "lengths": filter_lengths,
    "quality": filter_quality,
    "licences": note_licences,
    "split": split_documents,
}
"""Every step by its name in a pipeline's file, in the order of the default pipeline."""

__all__ = [
    "STEPS",
    "drop_exact_duplicates",
    "drop_near_duplicates",
    "filter_languages",
    "filter_lengths",
    "filter_quality",
    "mask_private",
    "mask_secrets",
    "normalise",
    "note_licences",
    "split_documents",
    "strip_markup",
    "whole_pile",
]
