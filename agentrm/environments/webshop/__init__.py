"""WebShop."""

DATA_VARIABLE = "WEBSHOP_DATA"

SMALL = "_small"
"""How the name of a small shop ends; what stands before it is the category that it sells."""
