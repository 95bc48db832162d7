"""How does a sweep compute only what an intervention changes, many changes at a time, exactly?"""
