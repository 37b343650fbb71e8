"""Says on stdout that it was imported."""

print("wgdisco_crooked was imported")
