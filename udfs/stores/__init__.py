"""Where images and small objects lie, S3 or folders, and how they are read."""
