"""When is an answer one that was recorded before, so that a sweep goes on where it was?"""
