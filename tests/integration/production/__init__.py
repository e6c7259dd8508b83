"""What may be looked at in production: reading only, of one team, slowly, and little of it.

Not part of the whole suite (`norecursedirs`): it needs a deployment, which it is told of by
environment variables (`configuration`), and it runs when it is named:

    pytest tests/integration/production/ -v --tb=short

`tests/integration/test_production.py` runs it against a deployment made for that, and the tests
beside it prove what the clients here promise.
"""
