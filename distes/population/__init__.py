"""What is drawn and what is reported: the two records, distributions, probes."""
