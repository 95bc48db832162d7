"""Ways of writing that finders are scored on."""
