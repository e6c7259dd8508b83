"""Reports of usage: `sources` answer the aggregation contract, `making` makes a `report.Report` of
their answers, and one module a form writes it."""
