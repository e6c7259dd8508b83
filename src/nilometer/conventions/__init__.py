"""Each source's attributes as tables: which property is which column of an event or a call."""
