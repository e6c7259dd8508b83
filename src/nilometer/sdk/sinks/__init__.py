"""Where metrics go: one module a kind of store, behind one port."""
