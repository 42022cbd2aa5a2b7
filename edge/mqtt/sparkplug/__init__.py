"""What a station is in Sparkplug B: an edge node, whose device is the camera."""
