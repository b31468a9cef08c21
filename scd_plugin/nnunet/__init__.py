"""The nnU-Net host. Import the module you need: `plans`, `cases` and `checkpoint` do not load nnunetv2."""
