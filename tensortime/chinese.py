"""The Chinese catalogue: each English template of the package, and how it is said in Chinese."""

CHINESE: dict[str, str] = {}
