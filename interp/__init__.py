"""The instruments: interventions, patching, surgery on source lines, statistics, figures."""
