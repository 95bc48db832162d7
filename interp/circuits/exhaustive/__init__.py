"""What do all circuits of a small model do, each head and MLP in or out, every one of them?"""
