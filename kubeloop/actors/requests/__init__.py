"""What the API server does with a request: pure but for the store it is given."""
