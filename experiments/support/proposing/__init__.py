"""What does a proposal of a model say of its data, abilities, risks, guardrails and costs?"""
