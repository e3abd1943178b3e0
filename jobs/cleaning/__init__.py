"""The clean set: its rules, its files, the manifests for S3 Batch Operations."""
