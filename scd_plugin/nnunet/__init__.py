"""The nnU-Net host. Import the module you need: only `trainers` loads nnunetv2."""
