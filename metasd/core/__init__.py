"""What every room shares: the records of a round, the one function that makes them, pools, ledgers, rewards, costs."""
