"""What Kubernetes fills in when the user says nothing; one module per family of kinds."""
