"""`scd predict`: nnU-Net's prediction with a clock, a progress bar, batched windows and work in the background."""
