"""One training loop; plain training and distillation are that loop with another objective."""
