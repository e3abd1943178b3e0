"""The door of a lake as an AWS Lambda function."""
