"""How is a cut made: in a trained model, or in one that is built from the edited file?"""
