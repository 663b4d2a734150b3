"""The pages for people: the talking page, and those of operators; no build step, nothing from elsewhere."""
