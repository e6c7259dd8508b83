"""What calls really cost: cases that any implementation can be run against."""
