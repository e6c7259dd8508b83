"""Against a deployment as others run it."""
