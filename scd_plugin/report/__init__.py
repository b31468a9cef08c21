"""`scd report`: what predictions or a training look like, as one HTML page that needs nothing else."""
