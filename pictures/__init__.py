"""The pictures of the README, made from the demo's simulated account: `make pictures`."""
