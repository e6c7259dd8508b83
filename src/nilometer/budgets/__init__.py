"""Budgets: what may be spent in a period, what is, and who hears of it.

The rules (`budget`, `periods`, `forecast`, `evaluation`) are pure and need neither a server nor a
database: a Lambda evaluates budgets too. Spend is always asked for (`spend.Spend`), never counted
along.
"""
