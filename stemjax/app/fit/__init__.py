"""`problem: fit`: any leaf of a simulated experiment found from data, with its error bar."""
