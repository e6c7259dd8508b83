"""Who spent what: the aggregation contract, the same on every host, and the Lambda's entry point.

A host (the server over `calls`, the Lambda over DynamoDB) turns a `UsageQuery` into `Groups`;
`answers` writes them as the JSON of the contract. docs/usage-api.md is the contract in words.
"""
