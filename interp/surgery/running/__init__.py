"""Which functions are loaded, what do their lines make, and how do they run other code?"""
