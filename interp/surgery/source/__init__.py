"""What stands in a model file, and which edit of it is a cut?"""
