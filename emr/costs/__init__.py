"""What a run costs: prices, hardware, the work of each stage, and the page of it."""
