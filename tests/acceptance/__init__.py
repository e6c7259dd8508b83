"""The acceptance suite: what a deployment must do, seen only through its front doors."""
