"""`make demo`: nnU-Net's own commands from a data set to Dice and a picture."""
