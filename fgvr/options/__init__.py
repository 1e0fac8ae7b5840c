"""Which names stand in a question of choice: what a model itself answers, ranked and cut, or other sources of them."""
