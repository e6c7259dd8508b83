"""The relational engine: sessions and migrations. Tables live with their feature."""
