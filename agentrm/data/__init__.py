"""Arrow datasets: demonstrations, search trees, and the training sequences made of them."""
