"""Planners for nnU-Net that plan networks of SCD, and the networks and token sizes that follow from plans."""
