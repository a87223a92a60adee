"""Programs: they read options, put the parts together and run them."""
