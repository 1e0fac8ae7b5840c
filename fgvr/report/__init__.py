"""A run as one page of HTML: read from its folder, drawn, and put together. Nothing of it needs a network or a GPU."""
