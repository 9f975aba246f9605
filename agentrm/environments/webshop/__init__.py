"""WebShop."""

DATA_VARIABLE = "WEBSHOP_DATA"
SESSIONS = "sessions"
"""The kind of all official goals, whatever their category."""
SOURCE = "WebShop's data (run its setup.sh)"

SMALL = "_small"
"""How the name of a small shop ends; what stands before it is the category that it sells."""
