"""Usage in one DynamoDB table, for those who have no server: written by the client library's sink,
read by the Lambda of the usage API. Needs the extra `dynamodb`.
"""
