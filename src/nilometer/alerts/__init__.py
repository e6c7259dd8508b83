"""Alert rules: what is looked for in stored calls and in Nilometer itself, and what is done then.

A rule is of a kind (`kinds`), which says what is measured. Whatever it measures, its `condition`
breaks once, fires once, recovers, and may fire again; days of unusual spend are told once each.
What fires raises an exception and tells channels, in one transaction. `kinds`, `rule`, `condition`,
`anomalies` and `unusual` are pure.
"""
