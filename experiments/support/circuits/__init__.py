"""Which texts ask a model for a circuit, what is found, and how is it told?"""
