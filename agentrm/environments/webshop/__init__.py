"""WebShop."""

DATA_VARIABLE = "WEBSHOP_DATA"
SOURCE = "WebShop's data (run its setup.sh)"
