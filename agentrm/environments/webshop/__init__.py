"""WebShop."""

DATA_VARIABLE = "WEBSHOP_DATA"
SOURCE = "WebShop's data (run its setup.sh)"

SMALL = "_small"
"""How the name of a small shop ends; what stands before it is the category that it sells."""
