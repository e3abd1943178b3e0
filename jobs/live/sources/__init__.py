"""Where arrivals come from: queues of events, and folders; what of it is wanted, and what it is like now."""
