"""What the app does with the map of a lake's images."""
