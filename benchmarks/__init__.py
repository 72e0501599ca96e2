"""What stemjax is measured against: each file measures one thing, `python -m benchmarks NAME` runs it."""
