"""What the experiments share: their command line, their subjects, trainings, pages."""
