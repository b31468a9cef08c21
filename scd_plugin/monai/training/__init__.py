"""What the bundles' trainings need beyond MONAI's own parts."""
