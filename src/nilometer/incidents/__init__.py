"""Incidents: an exception that was raised, judged, handled by a playbook, and explained."""
