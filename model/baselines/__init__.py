"""Systems RecGURU is compared with; each one ranks the items of a domain for a batch of users."""
