"""Access: organizations, projects, keys, and what each project allows."""
