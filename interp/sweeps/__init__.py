"""How a sweep is answered: what is asked, which way each part is answered, and the work itself."""
