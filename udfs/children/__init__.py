"""Child processes in which untrusted data are worked on."""
