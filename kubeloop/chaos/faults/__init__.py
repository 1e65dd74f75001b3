"""What can break, one module for each layer."""
