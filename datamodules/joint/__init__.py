"""Several data sets at once: their items one after another under names of their own, and the data module over them."""
