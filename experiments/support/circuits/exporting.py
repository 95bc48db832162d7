"""The edges of a run for other tools: which files, and which of them can hold this model?

save_exports(study, effects, d_model=64)     # exports/edges.graphml, edges.csv, eap_ig.json
"""

import pandas as pd

from experiments.support.circuits.studying import CircuitStudy
from experiments.support.circuits.telling import chosen, circuit_of
from interp.circuits.exporting import to_csv, to_eap_json, to_graphml
from interp.errors import UsageError

FOLDER = "exports"


def save_exports(study: CircuitStudy, effects: pd.DataFrame, d_model: int) -> str:
    """Write the edges that were measured, open, and which of them are in the smallest circuit.

    Returns:
        Why EAP-IG's file is missing; empty where it is there.
    """
    opened = effects[effects["meaning"] == "open"].reset_index(drop=True)
    measured = {*opened["edge"]}
    circuit = [edge for edge in circuit_of(study.run, chosen(study.run)) if edge in measured]
    folder = study.run.folder / FOLDER
    folder.mkdir(exist_ok=True)
    to_graphml(opened, folder / "edges.graphml", circuit=circuit)
    to_csv(opened, folder / "edges.csv", circuit=circuit)
    try:
        path = folder / "eap_ig.json"
        to_eap_json(opened, path, d_model=d_model, circuit=circuit, graph=study.graph)
    except UsageError as error:
        return f"{path.name} is not written: {error}"
    return ""
