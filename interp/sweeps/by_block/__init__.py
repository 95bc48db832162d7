"""How does a sweep carry changes through a model's own blocks, from the one that each changes?"""
