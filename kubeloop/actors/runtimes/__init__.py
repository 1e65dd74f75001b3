"""Container runtimes behind one protocol: simulated, process."""
