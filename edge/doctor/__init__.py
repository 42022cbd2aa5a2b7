"""edge-run --doctor: looks at everything a station needs, changes nothing."""
