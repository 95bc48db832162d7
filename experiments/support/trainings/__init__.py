"""Where do trainings run, what is one, and how far are they?"""
