"""What is under deploy/: policies, scripts, manifests."""
