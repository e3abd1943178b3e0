"""Maps: images laid out in a plane, so that alike ones lie together. Needs neither Spark nor jobs."""
