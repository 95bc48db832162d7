"""What becomes of a trained model with each cut of its file, and of one trained without?"""
