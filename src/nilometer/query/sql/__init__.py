"""Untrusted SQL: one SELECT on fixed virtual tables, within one project.

A query passes four fences, each of which would hold alone against what the others were tried with:

1. `text` has the engine itself print the query in its canonical form, and `grammar` parses that.
2. `selects` and `expressions` write a new query from the tree: kinds of node that they do not know
   are refused, and every table becomes a subquery that `tables` fences in to one project. No column
   leaves it that shares a dictionary, or a default, with rows outside.
3. The engine runs it on a handle of its own (`nilometer.clickhouse.sandbox`): read-only, in an
   empty database, with `additional_table_filters` on every table and limits on everything.
4. No text of the engine reaches the user; `errors` writes the sentences.
"""
